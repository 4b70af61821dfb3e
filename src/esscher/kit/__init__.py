"""The workbench: language models, runs and reports. It may use `esscher.core` and knows no system."""
