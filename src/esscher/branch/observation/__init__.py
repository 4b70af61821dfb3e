"""What a policy sees of a node: the bipartite graph of its LP, and the tree around it."""
