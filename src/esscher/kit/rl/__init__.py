"""Reinforcement learning: transitions, replay, rollouts, TD3, evaluation, environments, files."""
