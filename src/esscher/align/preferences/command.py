"""`esscher align prefer`, as the command line calls it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from esscher.align.preferences.options import PreferOptions
from esscher.align.preferences.report import write_preference_report
from esscher.align.preferences.run import finish_preferences, prepare_preferences
from esscher.kit.runs.folder import Run
from esscher.kit.runs.output import Output

__all__ = ["prefer"]


def prefer(
    pairs: Path | None = None,
    /,
    *,
    config: PreferOptions,
    output: Output,
    resume: Path | None = None,
) -> dict[str, Any]:
    """Learn from comparisons of texts: the model itself, or a reward that can be evidence."""
    if pairs is not None:
        config = replace(config, pairs=pairs)
    prepared = prepare_preferences(config, output)
    if resume is None:
        seed = config.seed
        run = Run.create(config.runs, "align", "prefer", config.name, config=config, seed=seed)
    else:
        run = Run.open(resume, config)
    with run, output.progress(config.steps, f"prefer {config.method}") as progress:

        def on_step(done: int, total: int, row: Mapping[str, Any]) -> None:
            progress.total = total
            seen = {"held_out": "held_out_loss", "accuracy": "held_out_accuracy", "KL": "kl_prior"}
            shown = {label: row[name] for label, name in seen.items() if name in row}
            progress.update(done - progress.done, **shown)

        numbers = finish_preferences(config, prepared, run, on_step)
        report = write_preference_report(run, config, numbers)
    shown = numbers if output.json else _brief(numbers)
    return {"report": str(report), "run": str(run.path), **shown}


def _brief(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """For a person: no bins, which the report draws."""
    return {k: v for k, v in numbers.items() if k not in ("calibration", "prior")}
