"""Novelty detection on the published designs and on Landsat, beside what else there is.

Design D1, seven Gaussians of which three are known, in 2 to 10 columns with the published prior:
one published start (one k-means, no moves) and ours; label noise; blocked Gibbs sampling of the
same model, labels against labels and CPU seconds against 20,000 sweeps, of which 200 are timed.
What a sweep costs, beside scikit-learn's mixture, and a million rows from disk. Landsat with two
classes held out. Skipped, and said so, where the data set is not at hand. The bound itself, on
problems that can be summed over.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _harness import Numbers, main, note
from _novelty_designs import against_sampler, designs, estimator_rules, label_noise
from _novelty_landsat import landsat
from _novelty_maths import maths
from _novelty_speed import speed

PARTS = (designs, landsat, speed, against_sampler, label_noise, maths, estimator_rules)


def measure(quick: bool) -> Numbers:
    numbers: Numbers = {}
    for part in PARTS:
        note(f"{part.__name__}")
        numbers |= part(quick)
    return numbers


def run(quick: bool = False, output: object = None) -> dict[str, float]:
    return {key: spread.median for key, spread in measure(quick).items()}


if __name__ == "__main__":
    sys.exit(main("novelty", __doc__, measure))
