"""Learning to branch in integer programming, by trajectories cut from finished search trees."""
