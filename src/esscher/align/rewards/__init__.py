"""Rewards that are programs, run on many workers, or are remembered.

    CachedReward(PooledReward(CommandReward("python score.py"), open_pool("processes:4")))

Each takes and gives what any evidence function does: `f(items, contexts)` -> one number per item,
in order.
"""
