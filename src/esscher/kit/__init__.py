"""The workbench: language models, runs, reports. It may use `core` and knows no system."""
