"""The rows of a training loop, the same in memory, in metrics.jsonl and after a resume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from esscher.kit.runs.checkpoint import checkpoint_steps
from esscher.kit.runs.folder import Run

__all__ = ["log_row", "resume_run"]


def log_row(
    history: list[dict[str, Any]], run: Run | None, done: int, row: Mapping[str, object]
) -> None:
    """Append a row to the history, estimates as {"mean", "se", "n"}, and to the run's metrics."""
    plain = {k: v.to_json() if hasattr(v, "to_json") else v for k, v in row.items()}
    history.append({"step": done, **plain})
    if run is not None:
        run.log(done, **row)


def resume_run(
    run: Run | None, first: Mapping[str, Any]
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """The state of a run's newest checkpoint and the rows until then.

    Args:
        run: the run; None gives nothing to go on from.
        first: the state before any step, which becomes the run's first checkpoint if it has none:
            from there on a kill at any moment can go back and drop the rows logged since.
    """
    if run is None:
        return None, []
    if not checkpoint_steps(run.path / "state"):
        run.save(0, dict(first))
        return None, []
    _, saved = run.resume()
    return saved, [_unflattened(row) for row in run.metrics()]


def _unflattened(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of metrics.jsonl as the history has it: estimates nested, no clock."""
    out: dict[str, Any] = {}
    for name, value in row.items():
        owner, _, part = name.rpartition("_")
        if part in ("se", "n", "ess") and f"{owner}_se" in row:
            out[owner][part] = value
        elif name != "time":
            out[name] = {"mean": value} if f"{name}_se" in row else value
    return out
