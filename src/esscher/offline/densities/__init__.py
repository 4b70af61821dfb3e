"""Densities of behaviour policies: exact or bounded log-probabilities, draws, entropy."""
