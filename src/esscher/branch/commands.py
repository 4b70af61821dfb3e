"""`esscher branch solve`, `tree` and `generate`, as the command line calls them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from esscher.branch.instances.files import read_model
from esscher.branch.named import policy_named
from esscher.branch.options import GenerateOptions, SolveOptions, TreeOptions
from esscher.branch.recorded import paths_of, record
from esscher.branch.setup import setup_of, solve_with
from esscher.errors import ConfigError, DataError
from esscher.kit.runs.files import write_atomic
from esscher.kit.runs.output import Output

__all__ = ["generate", "solve", "tree"]


def solve(file: Path, /, *, config: SolveOptions, output: Output) -> dict[str, Any]:
    """Solve an instance, with a policy in charge of branching."""
    model = read_model(file)
    policy = policy_named(config.policy, config.seed)
    if model.getNIntVars() + model.getNBinVars() == 0:
        output.say(f"{file} has no integer variable: there is nothing to branch on")
    found = solve_with(model, policy, setup_of(config), config.seed)
    told: dict[str, Any] = {
        "status": found.status,
        "objective": found.objective,
        "nodes": found.nodes,
        "decisions": found.decisions,
        "lp_iterations": found.lp_iterations,
        "seconds": found.seconds,
    }
    if config.sol is not None:
        told["sol"] = None if found.objective is None else _written(model, config.sol)
    return told


def tree(file: Path, /, *, config: TreeOptions, output: Output) -> dict[str, Any]:
    """Record the search tree of an instance, and draw it."""
    policy = policy_named(config.policy, config.seed)
    made, told = record(read_model(file), policy, setup_of(config), config.seed)
    paths = paths_of(made, config.select, config.seed) if config.select else []
    if config.out is not None:
        try:
            made.save(config.out)
        except OSError as error:
            raise DataError(f"cannot write {config.out}: {error}") from error
        told["out"] = str(config.out)
    if len(made) == 0:
        output.say(f"{file} was solved without a tree; plainer --settings leave more to branching")
        return told
    # Drawing takes seconds to load.
    from esscher.branch.drawing import tree_figure, tree_text  # noqa: PLC0415
    from esscher.kit.runs.figures import to_svg  # noqa: PLC0415

    if config.svg is not None:
        try:
            write_atomic(config.svg, to_svg(tree_figure(made, paths)))
        except OSError as error:
            raise DataError(f"cannot write {config.svg}: {error}") from error
        told["svg"] = str(config.svg)
    if not output.json:
        sys.stdout.write(tree_text(made) + "\n\n")
    return told


def generate(kind: str, /, *, config: GenerateOptions) -> dict[str, Any]:
    """Write instances of a class."""
    # Random streams load torch, which the other commands do without.
    from esscher.branch.instances.collection import generate as write  # noqa: PLC0415
    from esscher.branch.instances.sizes import named  # noqa: PLC0415

    law = named(kind)
    folder = Path(f"{law.name}-{config.seed}") if config.out is None else config.out
    ending = f".{config.format}"
    made = write(law, folder, config.count, config.seed, first=config.first, ending=ending)
    return {"folder": str(folder), "class": law.name, "instances": len(made.paths)}


def _written(model: Any, path: Path) -> str:
    if not path.parent.is_dir():
        raise ConfigError(f"there is no folder {path.parent} for the solution")
    model.writeBestSol(str(path))
    return str(path)
