"""Random instances of four classes, and files."""
