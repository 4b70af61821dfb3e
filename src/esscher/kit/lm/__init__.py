"""Small language models that run on a laptop, and the bridge to `transformers`."""
