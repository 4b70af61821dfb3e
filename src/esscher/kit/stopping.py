"""When to stop drawing and keep the best: reward laws known, or learnt from the draws themselves.

Numpy and scipy only, so that whoever draws can use it without loading torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import chdtri, erfcx, stdtr, stdtrit

from esscher.errors import ConfigError, DataError

__all__ = [
    "BestOfN",
    "EmpiricalLaw",
    "ExponentialLaw",
    "KnownLaw",
    "NormalLaw",
    "RewardLaw",
    "discrete_cap",
    "exponential_cap",
    "normal_cap",
]

Array = NDArray[np.float64]
Rule = Literal["ucb", "predictive", "plain"]
RULES = ("ucb", "predictive", "plain")


class RewardLaw(Protocol):
    """What is known of the law of the rewards."""

    def fair_cap(self, rewards: Array, cost: float) -> float:
        """The g at which another draw is worth its cost, E(X - g)⁺ = cost, as it looks by now.

        Args:
            rewards: [n] seen so far, in the order they came; may be empty.
            cost: of a draw, > 0.

        Returns:
            g; inf where too little has been seen to say.
        """
        ...


@dataclass(frozen=True)
class BestOfN:
    """Draw until the best reward is worth keeping.

    Attributes:
        cost: of one more draw, > 0, in units of the reward.
        prior: the law of the rewards, or the way it is learnt.
        most: draws at most, at least 1; None for no limit.

    Raises:
        ConfigError: if the cost is not positive and finite, or most is below 1.

    Reference:
        Weitzman (1979): with independent draws of a known law and any number of them left, stopping
        once the best is at least the fair cap is optimal, and worth the fair cap.
    """

    cost: float
    prior: RewardLaw
    most: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.cost < math.inf:
            raise ConfigError(f"the cost of a draw must be positive and finite, got {self.cost}")
        if self.most is not None and self.most < 1:
            raise ConfigError(f"most must be at least 1 draw, got {self.most}")

    def fair_cap(self, rewards: ArrayLike) -> float:
        """What the best reward has to reach for drawing to stop; inf where that is not known."""
        return self.prior.fair_cap(_rewards(rewards), self.cost)

    def should_stop(self, rewards: ArrayLike, history: ArrayLike = ()) -> bool:
        """Whether to keep the best of these rewards; never before the first.

        Args:
            rewards: [n] of the draws so far, -inf allowed.
            history: rewards of earlier searches of the same law, which teach but cannot be kept.

        Raises:
            DataError: if a reward is NaN or +inf, or the law cannot have such rewards.
        """
        seen = _rewards(rewards)
        if not len(seen):
            return False
        if self.most is not None and len(seen) >= self.most:
            return True
        known = np.concatenate([_rewards(history), seen])
        return bool(seen.max() >= self.prior.fair_cap(known, self.cost))


@dataclass(frozen=True, eq=False)
class KnownLaw:
    """A law on finitely many rewards, known beforehand.

    Attributes:
        values: [k] rewards, -inf allowed.
        probs: [k] their probabilities; equal ones where None.

    Raises:
        DataError: if there are no values, or probabilities are not such.
    """

    values: Sequence[float] | Array
    probs: Sequence[float] | Array | None = None
    _law: tuple[Array, Array] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        values = _rewards(self.values)
        probs = np.full(len(values), 1 / max(len(values), 1))
        if self.probs is not None:
            probs = np.asarray(self.probs, dtype=np.float64)
        if not len(values) or probs.shape != values.shape:
            raise DataError(
                f"a law needs one probability per reward and at least one of them, got "
                f"{len(values)} rewards and probabilities of shape {probs.shape}"
            )
        if not bool((probs >= 0).all()) or abs(float(probs.sum()) - 1) > 1e-9:
            raise DataError(
                f"probabilities must be at least 0 and sum to 1; the least is {probs.min()}, "
                f"the sum {probs.sum()}"
            )
        object.__setattr__(self, "_law", (values, probs))

    def fair_cap(self, rewards: Array, cost: float) -> float:
        """The same whatever has been seen."""
        del rewards
        return discrete_cap(*self._law, cost)


@dataclass(frozen=True)
class ExponentialLaw:
    """Exponential rewards of known mean, or of one that is learnt.

    Attributes:
        mean: > 0; None where it is to be learnt.
        rule: how it is learnt. `ucb`: the fair cap at the upper confidence bound of the mean, which
            is exact for any number of draws. `predictive`: the fair cap of the next draw's law, the
            rate having the prior of 1/rate. `plain`: the fair cap at the mean of the draws.
        level: of the bound, in (0, 1), one-sided, at every look.

    Raises:
        ConfigError: if the mean, the rule or the level is out of range.
    """

    mean: float | None = None
    rule: Rule = "ucb"
    level: float = 0.7

    def __post_init__(self) -> None:
        _check(self.rule, self.level)
        if self.mean is not None and not 0 < self.mean < math.inf:
            raise ConfigError(f"the mean of exponential rewards must be positive, got {self.mean}")

    def fair_cap(self, rewards: Array, cost: float) -> float:
        """See `RewardLaw`; inf before the first draw where the mean is learnt.

        Raises:
            DataError: if a reward is negative.
        """
        if self.mean is not None:
            return exponential_cap(self.mean, cost)
        n, total = len(rewards), float(rewards.sum())
        if n and float(rewards.min()) < 0:
            raise DataError(f"exponential rewards are not negative, got {rewards.min()}")
        if n == 0 or (n == 1 and self.rule == "predictive"):
            return math.inf
        if total == 0:
            return -cost
        if self.rule == "predictive":
            return _lomax_cap(n, total, cost)
        half = float(chdtri(2 * n, self.level)) / 2 if self.rule == "ucb" else n
        return exponential_cap(total / half, cost)


@dataclass(frozen=True)
class NormalLaw:
    """Normal rewards of known mean and standard deviation, or of such that are learnt.

    Attributes:
        mean: None where both are to be learnt.
        sd: > 0; None where both are to be learnt.
        rule: how they are learnt. `ucb`: the fair cap, which grows in both, at joint upper
            confidence bounds of both. `predictive`: the fair cap of the next draw's Student law
            under the reference prior. `plain`: the fair cap at the moments of the draws.
        level: of the joint bound, in (0, 1), at every look.

    Raises:
        ConfigError: if a parameter, the rule or the level is out of range, or only one is given.
    """

    mean: float | None = None
    sd: float | None = None
    rule: Rule = "ucb"
    level: float = 0.7

    def __post_init__(self) -> None:
        _check(self.rule, self.level)
        if (self.mean is None) != (self.sd is None):
            raise ConfigError("normal rewards need both mean and sd, or neither to learn them")
        if self.mean is not None and not math.isfinite(self.mean):
            raise ConfigError(f"the mean of normal rewards must be finite, got {self.mean}")
        if self.sd is not None and not 0 < self.sd < math.inf:
            raise ConfigError(f"the sd of normal rewards must be positive, got {self.sd}")

    def fair_cap(self, rewards: Array, cost: float) -> float:
        """See `RewardLaw`; inf before the third draw where the law is learnt.

        Raises:
            DataError: if a reward is not finite.
        """
        if self.mean is not None and self.sd is not None:
            return normal_cap(self.mean, self.sd, cost)
        n = len(rewards)
        if n < 3:
            return math.inf
        if float(rewards.min()) == -math.inf:
            raise DataError(
                "normal rewards are finite, got -inf; EmpiricalLaw takes draws that the evidence "
                "rules out"
            )
        mean, sd = float(rewards.mean()), float(rewards.std(ddof=1))
        if sd == 0:
            return mean - cost
        if self.rule == "predictive":
            return _student_cap(mean, sd * math.sqrt(1 + 1 / n), n - 1, cost)
        if self.rule == "ucb":
            each = (1 + self.level) / 2
            mean += float(stdtrit(n - 1, each)) * sd / math.sqrt(n)
            sd *= math.sqrt((n - 1) / float(chdtri(n - 1, each)))
        return normal_cap(mean, sd, cost)


@dataclass(frozen=True)
class EmpiricalLaw:
    """Rewards of any law, learnt from the draws alone.

    With an upper end of the rewards: the next draw falls into each of the n + 1 gaps between those
    seen with equal probability, and is taken to be at the upper end of its gap. Without one: the
    upper half of the draws is given an exponential tail whose mean is its upper confidence bound.

    Attributes:
        upper: largest reward there can be, or None.
        level: of the bound of the tail, in (0, 1), one-sided, at every look.

    Raises:
        ConfigError: if upper or level is out of range.

    Reference:
        Hill (1968), "Posterior distribution of percentiles", for the gaps.
    """

    upper: float | None = None
    level: float = 0.7

    def __post_init__(self) -> None:
        _check("ucb", self.level)
        if self.upper is not None and not math.isfinite(self.upper):
            raise ConfigError(f"upper must be finite or None, got {self.upper}")

    def fair_cap(self, rewards: Array, cost: float) -> float:
        """See `RewardLaw`; inf before the first draw, and before the fourth without an upper end.

        Raises:
            DataError: if a reward is above the upper end.
        """
        n = len(rewards)
        if self.upper is not None:
            if n and float(rewards.max()) > self.upper:
                raise DataError(f"a reward is {rewards.max()}, above the upper end {self.upper}")
            values = np.append(rewards, self.upper)
            return discrete_cap(values, np.full(n + 1, 1 / (n + 1)), cost)
        if n < 4:
            return math.inf
        top = np.sort(rewards)[n - n // 2 - 1 :]
        start, k = float(top[0]), len(top) - 1
        if not math.isfinite(start):
            return math.inf
        total = float((top[1:] - start).sum())
        if total == 0:
            return start
        # E(X - g)⁺ = (k / n) · s · exp(-(g - start) / s), the tail being exponential of mean s.
        s = 2 * total / float(chdtri(2 * k, self.level))
        return start + exponential_cap(s, cost * n / k)


def discrete_cap(values: Array, probs: Array, cost: float) -> float:
    """The g with Σ p (v - g)⁺ = cost, exactly, in O(k log k).

    The left side is the largest of k lines that fall in g, so g is the largest of their roots.

    Args:
        values: [k]; -inf allowed.
        probs: [k], not negative, sum 1.
        cost: > 0.
    """
    order = np.argsort(-values)
    v, p = values[order], probs[order]
    some = (p > 0) & (v > -math.inf)
    if not bool(some.any()):
        return -math.inf
    mass, total = np.cumsum(p[some]), np.cumsum(p[some] * v[some])
    return float(np.max((total - cost) / mass))


def exponential_cap(mean: float, cost: float) -> float:
    """The g with E(X - g)⁺ = cost for exponential X of this mean."""
    return mean * math.log(mean / cost) if cost <= mean else mean - cost


def normal_cap(mean: float, sd: float, cost: float) -> float:
    """The g with E(X - g)⁺ = cost for normal X."""
    k = cost / sd

    def gap(z: float) -> float:
        # log of φ(z) - z (1 - Φ(z)) over k; Mills' ratio keeps it from underflowing.
        if z > 0:
            inner = 1 - z * math.sqrt(math.pi / 2) * float(erfcx(z / math.sqrt(2)))
            return -z * z / 2 - math.log(math.sqrt(2 * math.pi)) + math.log(inner) - math.log(k)
        density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        return math.log(density - z * 0.5 * math.erfc(z / math.sqrt(2))) - math.log(k)

    return mean + sd * float(brentq(gap, -k - 1, 40.0, xtol=1e-12))


def _lomax_cap(shape: int, scale: float, cost: float) -> float:
    """The g with E(X - g)⁺ = cost for P(X > x) = (1 + x / scale)^-shape, shape > 1."""
    mean = scale / (shape - 1)
    if cost >= mean:
        return mean - cost
    return scale * math.expm1(math.log(mean / cost) / (shape - 1))


def _student_cap(centre: float, scale: float, df: int, cost: float) -> float:
    """The g with E(X - g)⁺ = cost for Student's X, df > 1."""
    k = cost / scale
    log_c = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(df * math.pi)

    def gap(u: float) -> float:
        density = math.exp(log_c - (df + 1) / 2 * math.log1p(u * u / df))
        excess: float = (df + u * u) / (df - 1) * density - u * float(stdtr(df, -u))
        return excess - k

    high = 1.0
    while gap(high) > 0:
        high *= 2
    return centre + scale * float(brentq(gap, -k - 1, high, xtol=1e-12))


def _rewards(values: ArrayLike) -> Array:
    seen = np.asarray(values, dtype=np.float64)
    if seen.ndim != 1:
        raise DataError(f"rewards are a list of numbers, got shape {seen.shape}")
    if len(seen) and not float(seen.max()) < math.inf:
        wrong = int(np.argmax(~(seen < math.inf)))
        raise DataError(f"reward {wrong} is {seen[wrong]}; it must be a number below inf")
    return seen


def _check(rule: str, level: float) -> None:
    if rule not in RULES:
        raise ConfigError(f"rule must be one of {', '.join(RULES)}, got {rule!r}")
    if not 0 < level < 1:
        raise ConfigError(f"level must lie in (0, 1), got {level}")
