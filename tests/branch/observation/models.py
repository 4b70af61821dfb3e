"""Small programs of many kinds, and a branching rule that looks at every node."""

import numpy as np
import pyscipopt as scip
from scipy import sparse

from esscher.branch.focus import Focus
from esscher.branch.milp import Milp


def milp(objective, matrix, row_low, row_high, *, low=0.0, high=1.0, integer=True, maximise=False):
    matrix = sparse.csr_array(np.asarray(matrix, dtype=float))
    rows, columns = matrix.shape

    def spread(value, size, kind=float):
        return np.broadcast_to(np.asarray(value, dtype=kind), size).copy()

    return Milp(
        np.asarray(objective, dtype=float),
        matrix,
        spread(row_low, rows),
        spread(row_high, rows),
        spread(low, columns),
        spread(high, columns),
        spread(integer, columns, bool),
        maximise,
    )


def covering(rows, columns, density, seed, *, zero=False):
    rng = np.random.default_rng(seed)
    matrix = rng.random((rows, columns)) < density
    for row in matrix:
        row[rng.choice(columns, 2, replace=False)] = True
    cost = np.zeros(columns) if zero else rng.integers(1, 101, columns)
    return milp(cost, matrix, 1.0, np.inf)


def auction(items, bids, seed):
    """Packing with two-sided rows and equalities, maximised."""
    rng = np.random.default_rng(seed)
    matrix = (rng.random((items, bids)) < 0.15).astype(float)
    matrix[:, 0] = 1
    weight = rng.integers(5, 40, (3, bids)).astype(float)
    total = weight.sum(1)
    low = np.concatenate([np.full(items, -np.inf), total[:2] * 0.2, [3.0]])
    high = np.concatenate([np.ones(items) * 2, total[:2] * 0.4, [3.0]])
    matrix = np.concatenate([matrix, weight[:2], rng.random((1, bids)) < 0.3])
    return milp(rng.integers(5, 60, bids), matrix, low, high, maximise=True)


def facility(customers, places, seed):
    """Binary places, continuous shares of customers."""
    rng = np.random.default_rng(seed)
    demand = rng.integers(5, 36, customers).astype(float)
    capacity = np.full(places, demand.sum() / places * 2.2)
    shares = customers * places
    cost = np.concatenate([rng.integers(100, 200, places), rng.random(shares) * 40])
    rows, low, high = [], [], []
    for i in range(customers):
        row = np.zeros(places + shares)
        row[places + i * places : places + (i + 1) * places] = 1
        rows, low, high = [*rows, row], [*low, 1.0], [*high, 1.0]
    for j in range(places):
        row = np.zeros(places + shares)
        row[j] = -capacity[j]
        row[places + j :: places] = demand
        rows, low, high = [*rows, row], [*low, -np.inf], [*high, 0.0]
    return milp(
        cost, rows, low, high, high=[1.0] * places + [np.inf] * shares,
        integer=np.arange(places + shares) < places,
    )  # fmt: skip


def independent_set(nodes, seed):
    rng = np.random.default_rng(seed)
    pairs = [(i, j) for i in range(nodes) for j in range(i) if rng.random() < 0.15]
    matrix = np.zeros((len(pairs), nodes))
    for row, pair in zip(matrix, pairs, strict=True):
        row[list(pair)] = 1
    return milp(np.ones(nodes), matrix, -np.inf, 1.0, maximise=True)


def mixed(seed):
    """Whole variables beyond 0 and 1, free variables and continuous ones, negative costs."""
    rng = np.random.default_rng(seed)
    columns = 24
    matrix = rng.integers(-9, 20, (12, columns)) * (rng.random((12, columns)) < 0.6)
    low = np.where(np.arange(columns) % 6 == 0, -np.inf, -3.0)
    high = np.where(np.arange(columns) % 5 == 0, np.inf, 7.0)
    cost = rng.integers(-20, 20, columns).astype(float)
    matrix = np.concatenate([matrix, cost[None]])
    row_low = np.concatenate([np.full(12, -61.0), [-1000.5]])
    row_high = np.concatenate([np.where(np.arange(12) % 2, 55.0, np.inf), [np.inf]])
    return milp(
        cost, matrix, row_low, row_high, low=low, high=high, integer=np.arange(columns) % 4 != 1
    )


def model_of(program, *, cuts=False, heuristics=False, presolve=False, seed=0):
    model = program.to_scip()
    params = {"lp/initalgorithm": "d", "lp/resolvealgorithm": "d", "presolving/maxrestarts": 0}
    if not cuts:
        names = ("maxrounds", "maxroundsroot", "maxcuts", "maxcutsroot")
        params |= {f"separating/{name}": 0 for name in names}
    if not presolve:
        params |= {"presolving/maxrounds": 0}
    if not (cuts or presolve):
        params |= {"propagating/maxrounds": 0, "propagating/maxroundsroot": 0}
    params |= {f"randomization/{name}": seed for name in ("randomseedshift", "permutationseed")}
    model.setParams(params)
    if not heuristics:
        model.setHeuristics(scip.SCIP_PARAMSETTING.OFF)
    return model


class _Looker(scip.Branchrule):
    def __init__(self, look, limit, seed):
        self.look, self.limit = look, limit
        self.rng = np.random.default_rng(seed)
        self.seen, self.error = 0, None

    def branchexeclp(self, allowaddcons):
        if self.seen >= self.limit or self.error is not None:
            self.model.interruptSolve()
            return {"result": scip.SCIP_RESULT.DIDNOTRUN}
        variables, values, fractions, count, *_ = self.model.getLPBranchCands()
        node = self.model.getCurrentNode()
        focus = Focus(
            self.model, variables[:count], np.array(values[:count]), np.array(fractions[:count]),
            node.getNumber(), node.getDepth(), self.seen,
        )  # fmt: skip
        self.seen += 1
        try:
            self.look(focus)
        except BaseException as error:
            self.error = error
            self.model.interruptSolve()
            return {"result": scip.SCIP_RESULT.DIDNOTRUN}
        self.model.branchVar(variables[int(self.rng.integers(count))])
        return {"result": scip.SCIP_RESULT.BRANCHED}

    def branchexecps(self, allowaddcons):
        return {"result": scip.SCIP_RESULT.DIDNOTRUN}


def walk(model, look, *, limit=40, seed=0, again=0):
    """Branch at random and call `look(focus)` at every node; returns how many there were."""
    rule = _Looker(look, limit, seed)
    model.includeBranchrule(rule, f"look{again}", "", 10**6 + again, -1, 1.0)
    model.optimize()
    if rule.error is not None:
        raise rule.error
    return rule.seen
