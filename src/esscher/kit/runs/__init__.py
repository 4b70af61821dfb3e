"""Runs: folder, checkpoints, seeds, progress and report. A leaf: it knows no model."""
