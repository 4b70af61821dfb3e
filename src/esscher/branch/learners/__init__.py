"""Learners of branching: Q-learning on trajectories, imitation, policy gradients."""
