"""How many steps of an objective fit into given CPU seconds, from a short pilot."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple, cast

from esscher.align.fit import fit
from esscher.align.options import FitOptions
from esscher.align.run import Prepared
from esscher.errors import ConfigError
from esscher.kit.runs.files import write_atomic

__all__ = ["Pace", "pace_of", "pilot"]

PILOT = 4
"""Steps of the pilot; the first one carries the setup and is not counted."""


class Pace(NamedTuple):
    """What a fit costs on one thread.

    Attributes:
        setup: CPU seconds before its first step: the probe of the prior, a twist that is learnt.
        per_step: CPU seconds of a step, the median of the pilot's.
    """

    setup: float
    per_step: float

    def steps_within(self, seconds: float) -> int:
        """Whole steps that fit into so many CPU seconds.

        Raises:
            ConfigError: if none does.
        """
        steps = math.floor((seconds - self.setup) / self.per_step)
        if steps < 1:
            raise ConfigError(
                f"a first step takes {self.setup + self.per_step:.3g} CPU seconds, so none fits "
                f"into {seconds:g}; raise --seconds or lower --batch"
            )
        return steps


def pilot(options: FitOptions, prepared: Prepared) -> Pace:
    """The pace of a fit with these options: a few steps of it, thrown away."""
    # What a process pays once, such as imports, is no cost of the objective.
    _ticks(options, prepared, 1)
    ticks = _ticks(options, prepared, PILOT)
    # A fit of a target that is its prior ends before its first step.
    took = [after - before for before, after in pairwise(ticks[1:])] or [1e-3]
    per_step = max(median(took), 1e-6)
    return Pace(max(0.0, ticks[min(1, len(ticks) - 1)] - ticks[0] - per_step), per_step)


def _ticks(options: FitOptions, prepared: Prepared, steps: int) -> list[float]:
    """CPU seconds at the start of a short fit and after each of its steps."""
    ticks = [time.process_time()]
    fit(
        prepared.policy,
        prepared.target,
        config=replace(options.config(), steps=steps),
        prompts=prepared.prompts,
        on_step=lambda *_: ticks.append(time.process_time()),
    )
    return ticks


def pace_of(file: Path, options: FitOptions, prepared: Prepared) -> Pace:
    """The pace kept in a file, or a pilot's, kept for a fit that is continued."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, json.dumps(pilot(options, prepared)._asdict()))
    kept = cast("dict[str, float]", json.loads(file.read_text(encoding="utf-8")))
    return Pace(**kept)
