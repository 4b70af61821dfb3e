"""Which variable to branch on decides how large the search tree gets.

Solves random set covering problems under four policies, shows one tree and the paths it is cut into
to learn from, and puts a policy in charge of a model that is built elsewhere.
"""

import numpy as np

from esscher.branch.evaluate import evaluate
from esscher.branch.instances.kind import instance
from esscher.branch.instances.set_cover import SetCover
from esscher.branch.named import policy_named
from esscher.branch.problems import Drawn
from esscher.branch.recorded import paths_of, record
from esscher.branch.settings import configure
from esscher.branch.setup import Setup
from esscher.branch.solve import attach
from esscher.branch.summary import summarise


def main() -> None:
    kind = SetCover(n_rows=150, n_cols=200, density=0.05)
    problems = [Drawn(kind, seed=1, number=i) for i in range(8)]
    names = ("random", "mostinfeasible", "pseudocost", "strong")
    rows = evaluate({name: name for name in names}, problems, seeds=(0,))
    for name, found in summarise(rows, base="random", rng=np.random.default_rng(0)).items():
        ratio = found.nodes_ratio
        against = f"{ratio.estimate.mean:.2f} of random's" if ratio else "the base"
        print(f"{name:15} {found.nodes_gmean:.1f} nodes, {against}, {found.wins.mean:.1f} wins")

    # One tree, and the paths from sub-tree roots to leaves that retrospective learning uses.
    largest = max(range(8), key=lambda i: rows[len(names) * i].nodes)
    tree, told = record(problems[largest].model(), policy_named("pseudocost"), Setup(), seed=0)
    print(f"{told['decisions']} decisions, depth {told['depth']}; nodes: {told['fates']}")
    print("paths of lengths", [len(path) for path in paths_of(tree, "max_leaf_lp_gain")])

    # Any PySCIPOpt model: a policy for its branching, SCIP's own rule where it does not choose.
    model = instance(kind, seed=1, i=3).to_scip()
    configure(model, "plain", seed=0)
    brancher = attach(model, policy_named("strong"), fallback="relpscost")
    model.optimize()
    brancher.raise_error()  # SCIP does not pass on what a callback raises
    print(f"optimum {model.getObjVal():g} after {brancher.decisions} decisions")


if __name__ == "__main__":
    main()
