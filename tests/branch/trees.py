"""Search trees for tests: grown from a list of steps, drawn at random, and made by hand."""

import functools

import numpy as np
from hypothesis import strategies as st

from esscher.branch.tree import Fate, SearchTree

STEP = st.tuples(
    st.integers(0, 30), st.tuples(st.integers(0, 3), st.integers(0, 3)),
    st.tuples(st.sampled_from([0, 0, 2, 3, 4]), st.sampled_from([0, 0, 2, 3, 4])),
)  # fmt: skip
"""Which open node is branched at, by how much its children's LPs rise, and what ends them at once
(0: they stay open)."""


@st.composite
def search_trees(draw, most=24, complete=None):
    """Trees with at least one decision; many bounds are equal."""
    steps = draw(st.lists(STEP, min_size=1, max_size=most))
    ended = draw(st.booleans()) if complete is None else complete
    return grow(steps, ended)


def grow(steps, complete=True):
    """The tree of a solve that takes these decisions, as long as there are open nodes.

    A complete solve cuts off what is left; a stopped one leaves it open.
    """
    parent, depth, number, fate, decision, closed = [-1], [0], [1], [0], [-1], [False]
    bound, created = [10.0], [-np.inf]
    waiting, last = [0], -1
    for pick, gains, ends in steps:
        if not waiting:
            break
        node = waiting.pop(pick % len(waiting))
        decision[node], fate[node], last = last + 1, Fate.BRANCHED, last + 1
        for gain, end in zip(gains, ends, strict=True):
            child = len(parent)
            for column, value in zip(
                (parent, depth, number, decision, closed, fate, created),
                (node, depth[node] + 1, child + 1, -1, False, end, bound[node]),
                strict=True,
            ):
                column.append(value)
            own = bound[node] + gain
            bound.append(np.inf if end in (Fate.INFEASIBLE, Fate.CUTOFF) else own)
            if end == 0:
                waiting.append(child)
        closed[node] = 0 not in ends
    for node in waiting:
        fate[node] = Fate.CUTOFF if complete else Fate.OPEN
        bound[node] = created[node]
    if complete and last >= 0:
        closed[decision.index(last)] = True
    n = len(parent)
    side = np.where(np.arange(n) % 2, -1, 1)
    side[0] = 0
    return SearchTree(
        parent=np.array(parent), bound=np.array(bound), open_bound=np.array(created),
        fate=np.array(fate), variable=np.where(np.arange(n) == 0, -1, (np.arange(n) + 1) // 2 % 3),
        direction=side, branch_value=np.where(side == 0, np.nan, (side + 1) / 2.0),
        depth=np.array(depth), decision=np.array(decision), closed=np.array(closed),
        names=("x0", "x1", "x2"), complete=complete or not waiting, number=np.array(number),
    )  # fmt: skip


def chain(n, complete=True):
    """n decisions, each at the first child of the one before."""
    return grow([(0, (1, 1), (0, 4))] * n, complete)


def random_tree(rng, n, pick="any"):
    """n decisions; `pick` is "first" (breadth first), "last" (depth first) or "any"."""
    picks = {"first": np.zeros(n, int), "last": np.full(n, -1), "any": rng.integers(0, 1 << 40, n)}
    gains, ends = rng.integers(0, 4, (n, 2)), rng.choice([0, 0, 0, 2, 3, 4], (n, 2))
    # Nothing may run dry before n decisions are taken: one child always stays open.
    ends[:, 1] = 0
    rows = zip(picks[pick].tolist(), gains.tolist(), ends.tolist(), strict=True)
    return grow(list(rows))


@functools.cache
def large(shape):
    """More than 100,000 nodes, 50,000 of them visited."""
    rng = np.random.default_rng(0)
    return chain(50_000) if shape == "chain" else random_tree(rng, 50_000, shape)


def by_hand(stopped=False, closed=(6, 9, 10)):
    """Eleven visited nodes, positions 0 .. 10, and twelve that are fathomed.

    ::

        0 (10)
        ├─ 1 (11)
        │  ├─ 3 (13)
        │  │  ├─ 6 (13) closed
        │  │  └─ 7 (15)
        │  └─ 4 (12)
        └─ 2 (12)
           └─ 5 (12)
              ├─ 8 (12)
              │  └─ 10 (15) closed
              └─ 9 (13) closed

    In brackets the bounds of their LPs. Visited in the order 0, 2, 1, 4, 3, 7, 5, 9, 8, 10, 6.
    Below node 4 is an integral node of bound 16, below node 10 one of bound 15. In a solve that was
    stopped node 15, below node 6, is open.
    """
    parent = [-1, 0, 0, 1, 1, 2, 3, 3, 5, 5, 8, 2, 4, 4, 6, 6, 7, 7, 8, 9, 9, 10, 10]
    bound = [10, 11, 12, 13, 12, 12, 13, 15, 12, 13, 15, *[np.inf] * 12]
    fate = [1] * 11 + [2, 3, 4, 2, 4, 4, 4, 4, 2, 2, 3, 4]
    bound[12], bound[21] = 16, 15
    if stopped:
        fate[15], bound[15] = 0, 13
    depth = [0]
    for above in parent[1:]:
        depth.append(depth[above] + 1)
    parent, bound, places = np.array(parent), np.array(bound, float), np.arange(23)
    decision = np.full(23, -1)
    decision[[0, 2, 1, 4, 3, 7, 5, 9, 8, 10, 6]] = np.arange(11)
    first = [above not in parent[:v].tolist() for v, above in enumerate(parent)]
    side = np.where(places == 0, 0, np.where(first, -1, 1))
    return SearchTree(
        parent=parent, bound=bound, open_bound=np.where(parent < 0, -np.inf, bound[parent]),
        fate=np.array(fate), variable=np.where(places == 0, -1, 0), direction=side,
        branch_value=np.where(side == 0, np.nan, (side + 1) / 2.0), depth=np.array(depth),
        decision=decision, closed=np.isin(places, closed), names=("x0",),
        complete=not stopped, number=places + 1,
    )  # fmt: skip
