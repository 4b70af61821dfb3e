"""Small instances, and the truth about them by full enumeration."""

import functools

import numpy as np

from esscher.pandora import Box, Claim, Open, PandoraInstance, Take

KINDS = ("integer", "pareto", "normal", "exposed")


def instance(rng, n, kind, outside=0.0, inspection="nonobligatory"):
    """Up to three values a box; ties and free boxes are common among the integers."""
    boxes = []
    for _ in range(n):
        k = int(rng.integers(1, 4))
        probs = rng.dirichlet(np.ones(k))
        if kind == "integer":
            box = Box(rng.integers(0, 6, k), probs, rng.choice([0.0, 0.25, 0.5, 1.0]))
        elif kind == "pareto":
            box = Box(rng.pareto(1.2, k), probs, rng.choice([0.0, 0.1, 1.0]) * rng.random())
        elif kind == "normal":
            box = Box(rng.normal(0.5, 1.0, k), probs, 0.3 * rng.random())
        else:
            high, p = rng.uniform(1.0, 10.0), rng.uniform(0.1, 0.6)
            box = Box([0.0, high], [1 - p, p], 0.4 * p * high * rng.random())
        boxes.append(box)
    return PandoraInstance(boxes, outside, inspection)


def brute_force(problem, start=None):
    """The Bellman equation on (closed boxes, best value)."""
    boxes = problem.boxes
    unseen = problem.inspection == "nonobligatory"

    @functools.lru_cache(None)
    def value(closed, y):
        best = y
        for i in closed:
            if unseen:
                best = max(best, boxes[i].mean)
            rest = tuple(k for k in closed if k != i)
            outcomes = zip(boxes[i].values, boxes[i].probs, strict=True)
            ahead = sum(p * value(rest, max(y, v)) for v, p in outcomes)
            best = max(best, ahead - boxes[i].cost)
        return best

    return value(tuple(range(len(boxes))), problem.outside if start is None else start)


def play_out(policy):
    """The policy's value by all that may be seen, asking it at every step."""
    problem = policy.instance

    def value(opened):
        action = policy.next_action(opened)
        if isinstance(action, Take):
            return problem.outside if action.name is None else opened[action.name]
        box = problem.box(action.name)
        if isinstance(action, Claim):
            return box.mean
        assert isinstance(action, Open)
        outcomes = zip(box.values, box.probs, strict=True)
        return -box.cost + sum(p * value({**opened, box.name: float(v)}) for v, p in outcomes)

    return value({})
