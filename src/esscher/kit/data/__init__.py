"""Data files and what is in them."""
