"""Policies on the same instances with the same seeds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeAlias

from esscher.branch.fair import fair_nodes
from esscher.branch.focus import Policy
from esscher.branch.named import policy_named
from esscher.branch.policies import ScipRule
from esscher.branch.problems import Problem, Source, as_problems
from esscher.branch.rows import Journal, Key, Row
from esscher.branch.setup import Setup, solve_with
from esscher.errors import ConfigError
from esscher.kit.runs.seeds import Streams
from esscher.kit.scale.pool import open_pool

__all__ = ["PolicySource", "evaluate"]

PolicySource: TypeAlias = str | ScipRule | Callable[[int], Policy | ScipRule]
"""A name or folder as `policy_named` takes it, or a function that makes the policy of a seed."""
PLAIN = Setup()


def evaluate(
    policies: Mapping[str, PolicySource],
    problems: Sequence[Source],
    *,
    setup: Setup = PLAIN,
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
        raise ConfigError(
            f"expected policies, and seeds that differ, got {list(policies)} and {seeds}"
        )
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
