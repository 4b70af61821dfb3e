"""Policies on the same instances with the same seeds."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from esscher.branch.callback import Limits
from esscher.branch.fair import fair_nodes
from esscher.branch.focus import Focus, Policy
from esscher.branch.named import policy_named
from esscher.branch.policies import ScipRule
from esscher.branch.problems import Problem, Source, as_problems
from esscher.branch.recorder import Recorder
from esscher.branch.rows import Journal, Key, Row
from esscher.branch.settings import configure
from esscher.branch.solve import SolveResult
from esscher.branch.solve import solve as solve_model
from esscher.errors import ConfigError, NumericsError
from esscher.kit.runs.seeds import Streams
from esscher.kit.scale.pool import open_pool

__all__ = ["PolicySource", "Setup", "evaluate", "solve_with"]

PolicySource: TypeAlias = str | ScipRule | Callable[[int], Policy | ScipRule]
"""A name or folder as `policy_named` takes it, or a function that makes the policy of a seed."""


@dataclass(frozen=True)
class Setup:
    """How SCIP is set, whoever branches."""

    settings: str = "bare"
    """SCIP parameters by name, see `esscher.branch.settings`."""
    selector: str = "default"
    """SCIP's choice of the next node."""
    time_limit: float = math.inf
    """Seconds of a solve."""
    node_limit: int | None = None
    """Nodes of a solve."""
    limits: Limits = Limits()
    """Where the policy hands over to the fallback."""
    fallback: str = "relpscost"
    """SCIP's rule for nodes the policy is not asked at."""


def evaluate(
    policies: Mapping[str, PolicySource],
    problems: Sequence[Source],
    *,
    setup: Setup = Setup(),
    seeds: Sequence[int] = (0,),
    scale: str = "serial",
    journal: Path | None = None,
    tell: Callable[[int], None] | None = None,
) -> list[Row]:
    """Solve every instance with every policy and seed.

    The rows do not depend on the number of workers, but for seconds. What a policy raises ends the
    evaluation and arrives as itself, with a note that names policy, instance and seed.

    Args:
        policies: by label; each is made afresh for every solve, folders are read once per worker.
        problems: instances of different names.
        setup: how SCIP is set. A solve that a limit ended is a row with SCIP's status.
        seeds: of SCIP's permutations, and of policies that choose at random.
        scale: where solves run: serial, processes:N, ray:N; see `esscher.kit.scale.pool`. Anything
            but serial needs policies that can be pickled; names can.
        journal: file that rows are appended to as they come. Rows that it holds are not solved
            again, so that an evaluation that was killed goes on where it was.
        tell: called with the number of rows there are now.

    Returns:
        Rows by instance, seed, policy, in the order these were given.

    Raises:
        ConfigError: if a name or number is not one there is.
        DataError: if an instance cannot be read, or the journal is damaged.
        Exception: what a policy raises.
    """
    named = {problem.name: problem for problem in as_problems(problems)}
    if not policies or not seeds or len(set(seeds)) != len(seeds):
        raise ConfigError(f"expected policies, and seeds that differ, got {list(policies)} and {seeds}")
    kept = None if journal is None else Journal(journal)
    rows = {} if kept is None else kept.read()
    wanted = [(p, i, s) for i in named for s in seeds for p in policies]
    todo = [_Task(key, named[key[1]]) for key in wanted if key not in rows]
    solver = _Solver(dict(policies), setup, journal, tell if scale == "serial" else None)
    solver.done = len(wanted) - len(todo)
    with open_pool(scale) as pool, _following(kept if scale != "serial" else None, tell):
        found = {row.key: row for row in pool.map(solver, todo)}
    if kept is not None:  # Workers on other machines have another file system.
        there = kept.read()
        kept.append(row for key, row in found.items() if key not in there)
    rows |= found
    return [rows[key] for key in wanted]


def solve_with(
    model: Any,
    policy: Policy | ScipRule,
    setup: Setup,
    seed: int | None = None,
    recorder: Recorder | None = None,
) -> SolveResult:
    """Set a model's parameters and solve it.

    A policy that cannot go on because the time is over, as strong branching's LPs, ends with the
    status "timelimit" like any other.

    Raises:
        Exception: as of `configure` and `solve`.
    """
    configure(
        model, setup.settings, selector=setup.selector, seed=seed, time_limit=setup.time_limit,
        node_limit=setup.node_limit,
    )  # fmt: skip
    counted = policy if isinstance(policy, ScipRule) else _Counted(policy)
    try:
        return solve_model(
            model, counted, recorder=recorder, limits=setup.limits, fallback=setup.fallback
        )
    except NumericsError:
        if model.getSolvingTime() < setup.time_limit or isinstance(counted, ScipRule):
            raise
    return SolveResult(
        "timelimit",
        float(model.getObjVal()) if model.getNSols() > 0 else None,
        int(model.getNTotalNodes()),
        counted.decisions,
        int(model.getNLPIterations()),
        float(model.getSolvingTime()),
        0.0,
        None if recorder is None else recorder.tree(complete=False),
    )


class _Counted:
    """A policy, and how many answers it has given."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.decisions = policy, 0

    def begin(self, model: Any) -> None:
        self.policy.begin(model)

    def choose(self, focus: Focus) -> int:
        choice = self.policy.choose(focus)
        self.decisions += 1
        return choice


class _Task(NamedTuple):
    key: Key
    problem: Problem


class _Solver:
    """Solves tasks; what workers are sent."""

    def __init__(
        self,
        policies: dict[str, PolicySource],
        setup: Setup,
        journal: Path | None,
        tell: Callable[[int], None] | None,
    ) -> None:
        self.policies, self.setup, self.journal, self.tell = policies, setup, journal, tell
        self.done = 0
        self._folders: dict[str, Policy | ScipRule] = {}

    def __call__(self, task: _Task) -> Row:
        label, instance, seed = task.key
        try:
            row = self._solved(task)
        except Exception as error:
            error.add_note(f"policy {label} on {instance}, seed {seed}")
            raise
        if self.journal is not None and self.journal.exists():
            Journal(self.journal).append([row])
        self.done += 1
        if self.tell is not None:
            self.tell(self.done)
        return row

    def _solved(self, task: _Task) -> Row:
        label, instance, seed = task.key
        model = task.problem.model()
        stream = Streams(seed).sequence("policy", instance)
        policy = self._policy(self.policies[label], int(stream.generate_state(1)[0]))
        found = solve_with(model, policy, self.setup, seed)
        seconds = found.seconds
        if found.status == "timelimit":
            seconds = max(seconds, self.setup.time_limit)
        return Row(
            label, instance, seed, found.status, found.objective, found.nodes, fair_nodes(model),
            found.decisions, found.lp_iterations, seconds, found.policy_seconds,
        )  # fmt: skip

    def _policy(self, source: PolicySource, seed: int) -> Policy | ScipRule:
        if isinstance(source, ScipRule):
            return source
        if not isinstance(source, str):
            return source(seed)
        if not Path(source).is_dir():
            return policy_named(source, seed)
        if source not in self._folders:
            self._folders[source] = policy_named(source, seed)
        return self._folders[source]


@contextmanager
def _following(journal: Journal | None, tell: Callable[[int], None] | None) -> Iterator[None]:
    """Tell how many rows there are while workers append them."""
    if journal is None or tell is None:
        yield
        return
    over = threading.Event()

    def follow() -> None:
        while not over.wait(0.5):
            tell(journal.count())

    thread = threading.Thread(target=follow, name="follow rows", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        tell(journal.count())
