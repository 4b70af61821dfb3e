"""Branching as a Gymnasium environment. Needs `pip install "esscher[milp,rl]"`.

SCIP calls for a decision and does not return meanwhile, so it solves on a stack of its own, a
greenlet, that is left wherever a decision is wanted and gone on with where the action is known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from esscher.branch.callback import Limits
from esscher.branch.focus import Focus
from esscher.branch.observation.base import COLUMN_FEATURES, ROW_FEATURES, Observation, Observer
from esscher.branch.recorder import Recorder
from esscher.branch.settings import configure
from esscher.branch.solve import SolveResult, solve
from esscher.errors import ConfigError, ShapeError
from esscher.kit.require import require

__all__ = ["BranchingEnv", "GraphSize"]

gymnasium: Any = require("gymnasium", "rl")
greenlet: Any = require("greenlet", "milp")
TRIES = 50
"""Instances in a row that need no branching, after which it is given up."""
Reward = Literal["decisions", "fathomed"]


@dataclass(frozen=True)
class GraphSize:
    """Room of a padded observation."""

    rows: int
    """Row sides."""
    columns: int
    """Columns, which are the actions."""
    edges: int
    """Coefficients."""
    tree: int = 0
    """Tree features: 24 or 0."""


class BranchingEnv(gymnasium.Env):  # type: ignore[misc]
    """One episode solves one instance; an action is the column to branch on.

    Observations are padded to `size`: "rows" [R, 5], "columns" [C, 19], "tree" [0 or 24],
    "edge_row" and "edge_column" [E] with -1 where there is none, "edge_value" [E], "mask" [C] of
    the candidates. `graph` is the same without padding, `info["action_mask"]` the mask; at the end
    `info["result"]` is the `SolveResult`. A truncated solve is not finished.

    Args:
        problem: makes the model of instance i, a `pyscipopt.Model`; i is drawn from the seed.
        size: of the padding.
        observer: takes observations.
        settings: of SCIP, see `esscher.branch.settings`.
        reward: "decisions": -1 a step, 0 for the last; "fathomed": 0 where the decision left no
            child in the tree and -1 elsewhere.
        max_decisions: after which an episode is truncated.
        instances: i is drawn below this.
        record: keep the search tree, for the result.
        invalid: what an action does that is no candidate: "raise" ConfigError, or "ignore" it: the
            state stays, the step costs 1 and has `info["invalid"]`. Gymnasium's `check_env` draws
            actions without the mask and needs the latter.

    An episode belongs to the thread that began it.

    Raises:
        MissingExtra: if gymnasium, greenlet or pyscipopt is not installed.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}

    def __init__(
        self,
        problem: Callable[[int], Any],
        size: GraphSize,
        observer: Observer,
        *,
        settings: str = "bare",
        reward: Reward = "decisions",
        max_decisions: int | None = None,
        instances: int = 2**31,
        record: bool = False,
        invalid: Literal["raise", "ignore"] = "raise",
    ) -> None:
        if reward not in ("decisions", "fathomed"):
            raise ConfigError(f"reward is 'decisions' or 'fathomed', got {reward!r}")
        self.problem, self.size, self.observer = problem, size, observer
        self.settings, self.reward, self.instances = settings, reward, instances
        self.invalid = invalid
        self._record = record or reward == "fathomed"
        self._edges: tuple[NDArray[Any] | None, ...] = (None, None, None)
        self._edges_padded: tuple[NDArray[Any], ...] = ()
        stop = Limits() if max_decisions is None else Limits(max_decisions=max_decisions, stop=True)
        self._limits = stop
        self._session: _Session | None = None
        self._observation: Observation | None = None
        self.observation_space = _space(size)
        self.action_space = gymnasium.spaces.Discrete(size.columns)

    @property
    def graph(self) -> Observation:
        """The present observation without padding.

        Raises:
            ConfigError: if there is no episode.
        """
        if self._observation is None:
            raise ConfigError("there is no episode; call reset first")
        return self._observation

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an instance that needs branching: `options={"instance": i}`, or a drawn one.

        Raises:
            ConfigError: if none of fifty instances in a row needs branching.
        """
        super().reset(seed=seed)
        self.close()
        wanted = (options or {}).get("instance")
        for _ in range(TRIES):
            number = int(self.np_random.integers(self.instances)) if wanted is None else wanted
            model = self.problem(number)
            configure(model, self.settings, seed=0)
            model.setParam("misc/catchctrlc", False)
            self._session = session = _Session(model, self.observer, self._limits, self._record)
            found = session.wait()
            if isinstance(found, Observation):
                self._observation = found
                return self._padded(found), self._info(found) | {"instance": number}
            if wanted is not None:
                break
        what = f"instance {wanted}" if wanted is not None else f"{TRIES} instances in a row"
        raise ConfigError(f"{what} needed no branching; take harder ones or plainer settings")

    def step(self, action: int) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Branch on a column.

        Raises:
            ConfigError: if there is no episode, or the column is no candidate and that is not
                ignored.
        """
        before, session = self.graph, self._session
        assert session is not None
        places = np.flatnonzero(before.candidates == action)
        if len(places) == 0 and self.invalid == "ignore":
            return self._padded(before), -1.0, False, False, self._info(before) | {"invalid": True}
        if len(places) == 0:
            raise ConfigError(
                f"column {action} is no candidate; info['action_mask'] has those that are"
            )
        found = session.wait(int(places[0]))
        if isinstance(found, Observation):
            self._observation = found
            return (
                self._padded(found),
                self._reward(session, False),
                False,
                False,
                self._info(found),
            )
        self._observation = None
        cut = found.status not in ("optimal", "infeasible")
        info = {"result": found, "action_mask": np.zeros(self.size.columns, dtype=np.int8)}
        return self._padded(_nothing(before)), self._reward(session, not cut), not cut, cut, info

    def close(self) -> None:
        """Stop the solve under way, if any."""
        if self._session is not None:
            self._session.stop()
        self._session = self._observation = None

    def _reward(self, session: _Session, solved: bool) -> float:
        if solved:
            return 0.0
        if self.reward == "fathomed":
            return 0.0 if session.closed() else -1.0
        return -1.0

    def _info(self, found: Observation) -> dict[str, Any]:
        mask = np.zeros(self.size.columns, dtype=np.int8)
        mask[found.candidates] = 1
        return {"action_mask": mask}

    def _padded(self, found: Observation) -> dict[str, NDArray[Any]]:
        size = self.size
        real = (len(found.rows), len(found.columns), len(found.edge_row), len(found.tree))
        if real[0] > size.rows or real[1] > size.columns or real[2] > size.edges:
            raise ShapeError(f"an observation of {real[:3]} rows, columns, edges exceeds {size}")
        if real[3] != size.tree:
            raise ShapeError(
                f"the observer gives {real[3]} tree features, size.tree is {size.tree}"
            )
        row, column, value = self._padded_edges(found)
        return {
            "rows": _filled(found.rows, (size.rows, found.rows.shape[1]), 0.0),
            "columns": _filled(found.columns, (size.columns, found.columns.shape[1]), 0.0),
            "tree": found.tree,
            "edge_row": row.copy(),
            "edge_column": column.copy(),
            "edge_value": value.copy(),
            "mask": self._info(found)["action_mask"],
        }

    def _padded_edges(self, found: Observation) -> tuple[NDArray[Any], ...]:
        """They mostly stay what they were."""
        edges = found.edge_row, found.edge_column, found.edge_value
        if not all(one is other for one, other in zip(edges, self._edges, strict=True)):
            room = (self.size.edges,)
            self._edges = edges
            self._edges_padded = tuple(
                _filled(part, room, rest) for part, rest in zip(edges, (-1, -1, 0.0), strict=True)
            )
        return self._edges_padded


class _Session:
    """A solve that is left at every decision. Dropped, it comes to an end."""

    def __init__(self, model: Any, observer: Observer, limits: Limits, record: bool) -> None:
        self._recorder = recorder = Recorder() if record else None
        asking = _Asking(observer)
        # It must not hold the session, or neither would ever be dropped.
        self._solver = greenlet.greenlet(
            lambda: solve(model, asking, recorder=recorder, limits=limits)
        )

    def wait(self, *choice: int) -> Observation | SolveResult:
        """Answer, where there was a question, and go on to the next or the end."""
        self._solver.parent = greenlet.getcurrent()
        found: Observation | SolveResult = self._solver.switch(*choice)
        return found

    def closed(self) -> bool:
        """Whether the decision before the last left no child in the tree."""
        return self._recorder is not None and self._recorder.last_closed

    def stop(self) -> None:
        """Leave the solve, if it is under way."""
        if self._solver:
            self._solver.parent = greenlet.getcurrent()
            self._solver.throw()


class _Asking:
    """The policy: asks whoever went on with the solve."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def begin(self, model: Any) -> None:
        self._observer.begin(model)

    def choose(self, focus: Focus) -> int:
        seen = self._observer.observe(focus)
        return int(greenlet.getcurrent().parent.switch(seen))


def _space(size: GraphSize) -> Any:
    spaces = gymnasium.spaces
    real = {
        "rows": (size.rows, len(ROW_FEATURES)),
        "columns": (size.columns, len(COLUMN_FEATURES)),
        "tree": (size.tree,),
        "edge_value": (size.edges,),
    }
    found = {k: spaces.Box(-np.inf, np.inf, shape, np.float32) for k, shape in real.items()}
    found["edge_row"] = spaces.Box(-1, size.rows - 1, (size.edges,), np.int32)
    found["edge_column"] = spaces.Box(-1, size.columns - 1, (size.edges,), np.int32)
    found["mask"] = spaces.MultiBinary(size.columns)
    return spaces.Dict(found)


def _filled(values: NDArray[Any], shape: tuple[int, ...], rest: float) -> NDArray[Any]:
    found = np.full(shape, rest, dtype=values.dtype)
    found[: len(values)] = values
    return found


def _nothing(like: Observation) -> Observation:
    """An observation without nodes, of a solve that has ended."""
    empty = {name: value[:0] for name, value in like._asdict().items()}
    return Observation(**empty)._replace(tree=np.zeros_like(like.tree))
