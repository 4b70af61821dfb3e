"""The mathematics: laws, evidence, targets, divergences, estimates and samplers."""
