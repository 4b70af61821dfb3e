"""Functions over batches: here, in processes, or on a Ray cluster. A leaf: it knows no system."""
