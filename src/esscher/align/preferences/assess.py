"""How well predicted preferences agree with held-out ones: accuracy, log loss, calibration."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from esscher.align.preferences.losses import cross_entropy
from esscher.core.estimate import Estimate, bootstrap, clopper_pearson, from_samples
from esscher.errors import DataError, ShapeError
from esscher.kit.runs.seeds import Streams

__all__ = ["Bin", "PreferenceFit", "assess", "favourites"]

BINS = 10
"""Bins of equal width between ½ and 1."""
REPLICATES = 200


@dataclass(frozen=True)
class Bin:
    """The held-out pairs for which the model gives its favourite a probability in [low, high).

    Attributes:
        low: lower end; the last bin holds its upper end as well.
        high: upper end.
        n: pairs.
        predicted: mean probability the model gives its favourites.
        observed: share of them that were preferred.
    """

    low: float
    high: float
    n: int
    predicted: Estimate
    observed: Estimate

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: v.to_json() if isinstance(v, Estimate) else v for k, v in found.items()}


@dataclass(frozen=True)
class PreferenceFit:
    """Predicted against observed preferences, on pairs that were not trained on.

    Attributes:
        accuracy: share of pairs whose preferred text the model favours; a tie counts ½.
        accuracy_low: lower end of its 95 % confidence interval (Clopper and Pearson 1934).
        accuracy_high: upper end.
        log_loss: mean -log of the probability given to what was preferred, nats; guessing costs
            log 2 = 0.693. None where the model's margins are no log-odds, as the two below.
        calibration: bins that hold a pair, by rising probability.
        calibration_error: expected |observed - predicted| over the bins, with a bootstrap standard
            error; it is positive even for a calibrated model, by about the noise in a bin.
    """

    accuracy: Estimate
    accuracy_low: float
    accuracy_high: float
    log_loss: Estimate | None
    calibration: tuple[Bin, ...]
    calibration_error: Estimate | None

    def to_json(self) -> dict[str, Any]:
        """Plain numbers; every estimate as {"mean", "se", "n"}."""
        out: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        out["calibration"] = [b.to_json() for b in self.calibration]
        return {k: v.to_json() if isinstance(v, Estimate) else v for k, v in out.items()}


def assess(
    log_odds: Tensor, label: Tensor, *, seed: int = 0, probabilistic: bool = True
) -> PreferenceFit:
    """Judge predictions of N pairs by what was observed.

    Args:
        log_odds: [N] of the first text being preferred, as predicted.
        label: [N] in [0, 1], whether (or how probably) it was.
        seed: of the bootstrap.
        probabilistic: whether `log_odds` are log-odds at all; if not, only their signs count.

    Raises:
        ShapeError: if the two differ in length or are empty.
        DataError: if a prediction is NaN or a label lies outside [0, 1].
    """
    if log_odds.ndim != 1 or log_odds.shape != label.shape or len(label) == 0:
        raise ShapeError(
            f"assess needs log-odds [N] and labels [N] with N >= 1, got {tuple(log_odds.shape)} "
            f"and {tuple(label.shape)}"
        )
    if bool(log_odds.isnan().any()) or bool(((label < 0) | (label > 1)).any()):
        raise DataError("assess needs log-odds that are not NaN, and labels in [0, 1]")
    predicted, observed = favourites(log_odds, label)
    accuracy, hits, n = from_samples(observed), float(observed.sum()), len(observed)
    low, high = clopper_pearson(math.floor(hits), n)[0], clopper_pearson(math.ceil(hits), n)[1]
    if not probabilistic:
        return PreferenceFit(accuracy, low, high, None, (), None)
    loss = from_samples(cross_entropy(log_odds.double(), label.double()), unit="nats")
    rng = Streams(seed).torch("calibration")
    error = bootstrap(predicted, observed, statistic=_error, rng=rng, n_boot=REPLICATES)
    return PreferenceFit(accuracy, low, high, loss, _bins(predicted, observed), error)


def favourites(log_odds: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Every pair from the side the model favours, so that it counts once whatever its order.

    Returns:
        Predicted probability [N] of the favourite, in [½, 1], and whether [N] it was preferred; ½
        for a tie.
    """
    log_odds, label = log_odds.double(), label.double()
    won = torch.where(log_odds > 0, label, 1 - label)
    return torch.sigmoid(log_odds.abs()), torch.where(log_odds == 0, 0.5, won)


def _places(predicted: Tensor) -> Tensor:
    """Bin number [N] of each prediction."""
    return ((predicted - 0.5) * 2 * BINS).long().clamp(0, BINS - 1)


def _bins(predicted: Tensor, observed: Tensor) -> tuple[Bin, ...]:
    places = _places(predicted)
    found = []
    for k in sorted(set(places.tolist())):
        inside = places == k
        low, high = 0.5 + k / (2 * BINS), 0.5 + (k + 1) / (2 * BINS)
        means = from_samples(predicted[inside]), from_samples(observed[inside])
        found.append(Bin(low, high, int(inside.sum()), *means))
    return tuple(found)


def _error(predicted: Tensor, observed: Tensor) -> float:
    """Expected calibration error: Σ_b n_b / n |observed - predicted|.

    Reference: Naeini, Cooper, Hauskrecht (2015).
    """
    gaps = torch.zeros(BINS, dtype=torch.float64)
    gaps.index_add_(0, _places(predicted), observed - predicted)
    return float(gaps.abs().sum()) / len(predicted)
