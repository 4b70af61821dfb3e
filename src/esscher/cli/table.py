"""Every command in one table, loaded only when it is called.

A command is a plain function in the system it belongs to:

    @dataclass(frozen=True)
    class FitOptions:
        steps: int = 100
        \"\"\"Gradient steps, >= 1.\"\"\"
        optim: Optim = field(default_factory=Optim)
        \"\"\"Optimiser.\"\"\"

    def fit(config: FitOptions, output: Output) -> dict[str, object]:
        \"\"\"Tune a model towards its target.\"\"\"
        with output.progress(config.steps, "fit") as progress:
            ...
        return {"kl": estimate, "report": path}

- A parameter annotated with a dataclass becomes flags: `--steps`, `--optim.lr`; tuples repeat
  (`--prompts a --prompts b`), `Literal` gives choices, the docstrings under the fields give the
  help. There is at most one; `--config FILE.toml` fills it (defaults < file < flags).
- A parameter annotated with `esscher.kit.runs.output.Output` receives `--json`, `-q`, `-v`.
- Any other parameter is an argument (positional) or flag (keyword-only) of its own. One called
  `resume: Path | None = None` makes `--resume RUN` take the settings recorded in that run.
- The result is printed: as one JSON object with `--json`, else as tables. It holds what
  `json_ready` takes; estimates keep their error. A result with `"ok": False` ends with exit code 1.
- Errors are raised as `EsscherError`: exit code 2 for what the user can put right, 1 for faults,
  130 for Ctrl-C.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["COMMANDS", "GROUPS", "Command"]


class Command(NamedTuple):
    """A row of the table.

    Attributes:
        target: "module:function".
        help: one line, shown without loading the module.
    """

    target: str
    help: str


GROUPS: Mapping[str, str] = {
    "align": "Tune a language model towards a prior tilted by evidence.",
    "branch": "Which variable to branch on in integer programming.",
    "data": "Data sets that are not part of the package.",
    "novelty": "Known classes, and an unknown number of new ones.",
    "offline": "Policies from the logs of several policies at once.",
    "pandora": "Which boxes to open at a cost, in which order, and when to stop.",
}

COMMANDS: Mapping[str, Command] = {
    "align demo": Command("esscher.align.commands:demo", "See the whole idea on a small model."),
    "align check": Command(
        "esscher.align.commands:check", "See how hard a target is before any training."
    ),
    "align fit": Command("esscher.align.commands:fit", "Tune a model towards its target."),
    "align sample": Command("esscher.align.commands:sample", "Draw from the target or a model."),
    "align evaluate": Command(
        "esscher.align.commands:evaluate", "Measure how close a model is to its target."
    ),
    "align prefer": Command(
        "esscher.align.preferences.command:prefer", "Learn from comparisons of texts."
    ),
    "align compare": Command(
        "esscher.align.commands:compare", "Compare ways to approximate one target."
    ),
    "branch generate": Command(
        "esscher.branch.commands:generate", "Write random instances of a class."
    ),
    "branch solve": Command(
        "esscher.branch.commands:solve", "Solve an instance, with a policy that branches."
    ),
    "branch tree": Command(
        "esscher.branch.commands:tree", "Record the search tree of an instance, and draw it."
    ),
    "branch demo": Command(
        "esscher.branch.learning:demo", "Learn to branch within minutes, and see what it is worth."
    ),
    "branch fit": Command(
        "esscher.branch.learning:fit", "Learn to branch in a class of instances."
    ),
    "branch evaluate": Command(
        "esscher.branch.comparison:evaluate", "Measure policies on the same instances."
    ),
    "branch compare": Command(
        "esscher.branch.comparison:compare", "Measure policies, draw their trees, write a report."
    ),
    "novelty demo": Command(
        "esscher.novelty.commands:demo", "Discover digits that nobody labelled."
    ),
    "novelty fit": Command(
        "esscher.novelty.commands:fit", "Fit known classes and discover new ones in a batch."
    ),
    "novelty predict": Command(
        "esscher.novelty.commands:predict", "Label further rows by a fitted model."
    ),
    "novelty compare": Command(
        "esscher.novelty.commands:compare", "Fit, and set other detectors beside it."
    ),
    "novelty simulate": Command(
        "esscher.novelty.commands:simulate", "Write rows of a published design."
    ),
    "data get": Command("esscher.cli.data:get", "Fetch a data set into the user's cache."),
    "data list": Command("esscher.cli.data:listed", "Show the data sets and where they lie."),
    "offline demo": Command(
        "esscher.offline.commands:demo", "See the mean of two good policies fail, and the cure."
    ),
    "offline collect": Command(
        "esscher.offline.commands:collect", "Train behaviour policies and write what they do."
    ),
    "offline mix": Command("esscher.offline.commands:mix", "Put data sets together."),
    "offline inspect": Command(
        "esscher.offline.commands:inspect", "Say who did what, and where the data are narrow."
    ),
    "offline fit": Command("esscher.offline.commands:fit", "Learn a policy from a data set."),
    "offline evaluate": Command(
        "esscher.offline.commands:evaluate", "Measure a fitted policy in its environment."
    ),
    "offline compare": Command(
        "esscher.offline.commands:compare", "Fit several learners to one data set."
    ),
    "pandora demo": Command(
        "esscher.pandora.commands:demo", "See on two examples what simpler rules lose."
    ),
    "pandora solve": Command(
        "esscher.pandora.commands:solve", "Find a policy, its value, and a bound on all."
    ),
    "pandora compare": Command(
        "esscher.pandora.commands:compare", "Set simpler rules and the bound beside the optimum."
    ),
    "pandora simulate": Command(
        "esscher.pandora.commands:simulate", "Play a policy and check its computed value."
    ),
    "pandora generate": Command(
        "esscher.pandora.commands:generate", "Write an instance of a family."
    ),
    "show": Command("esscher.cli.show:show", "Show the state and the numbers of runs."),
    "bench": Command("esscher.cli.bench:bench", "Reproduce headline numbers."),
    "doctor": Command("esscher.cli.doctor:doctor", "Check the installation and this machine."),
}
