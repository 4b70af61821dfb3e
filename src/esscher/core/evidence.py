"""Evidence: what is known about the wanted samples, as log-weights that tilt a prior.

Every piece of evidence maps a batch to log-weights [B] in nats: -inf rules a sample out, NaN and
+inf are errors. Log-weights of independent evidence add.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from esscher.core.batch import BatchFunction, OnError, evaluate, shown, unique_names
from esscher.errors import ConfigError, DataError, NumericsError

__all__ = [
    "Condition",
    "Evidence",
    "Likelihood",
    "Moments",
    "PrefixCondition",
    "Reward",
    "default_name",
]


@runtime_checkable
class Evidence(Protocol):
    """Anything with a name that weighs a batch of samples."""

    @property
    def name(self) -> str:
        """How messages and `Target.terms` call it."""
        ...

    def log_weight(self, items: Sequence[Any], contexts: Sequence[Any] | None) -> Tensor:
        """[B] float64 log-weights, nats, in [-inf, inf)."""
        ...


def default_name(function: BatchFunction, fallback: str) -> str:
    """The function's own name, or fallback for lambdas and nameless callables."""
    name = getattr(function, "__name__", fallback)
    return fallback if name == "<lambda>" else str(name)


@dataclass(frozen=True)
class Reward:
    """A reward tilts the prior by exp(r / beta), the posterior of KL-regularised RL.

    Args:
        score: `f(items)` or `f(items, contexts)` -> B rewards; -inf rules an item out.
        beta: temperature in (0, inf), in units of reward per nat.
        name: taken from the score when empty.
        on_error: "worst" rules out the items on which the function raises, with a warning; "raise"
            stops.

    Raises:
        ConfigError: if beta is not in (0, inf).

    Reference:
        Korbak, Perez, Buckley (2022), section 3.
    """

    score: BatchFunction
    beta: float = 1.0
    name: str = ""
    on_error: OnError = "raise"

    def __post_init__(self) -> None:
        if not 0.0 < self.beta < math.inf:
            raise ConfigError(
                f"Reward needs a finite beta > 0, got {self.beta}; "
                "for evidence that must hold exactly use Condition(predicate)"
            )
        object.__setattr__(self, "name", self.name or default_name(self.score, "reward"))

    def log_weight(self, items: Sequence[Any], contexts: Sequence[Any] | None) -> Tensor:
        """R / beta, [B] nats."""
        owner = f"Reward '{self.name}'"
        return evaluate(self.score, items, contexts, owner, on_error=self.on_error) / self.beta


@dataclass(frozen=True)
class Condition:
    """A predicate that must hold: log-weight 0 where it does and -inf where it does not.

    Args:
        predicate: `f(items)` or `f(items, contexts)` -> B values, each 0 or 1 (or a bool).
        name: taken from the predicate when empty.
        on_error: "worst" rules out the items on which the function raises, with a warning; "raise"
            stops.
    """

    predicate: BatchFunction
    name: str = ""
    on_error: OnError = "raise"

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or default_name(self.predicate, "condition"))

    def log_weight(self, items: Sequence[Any], contexts: Sequence[Any] | None) -> Tensor:
        """Log b, [B], each 0 or -inf.

        Raises:
            DataError: if a value is neither 0 nor 1.
        """
        values = evaluate(
            self.predicate,
            items,
            contexts,
            f"Condition '{self.name}'",
            on_error=self.on_error,
            worst=0.0,
        )
        odd = (values != 0.0) & (values != 1.0)
        if bool(odd.any()):
            i = int(odd.nonzero()[0])
            raise DataError(
                f"Condition '{self.name}': sample {i} got {float(values[i])}, expected 0 or 1; "
                f"the item is {shown(items[i])}; for graded evidence use Reward or Likelihood"
            )
        return values.log()


@dataclass(frozen=True)
class PrefixCondition(Condition):
    """A predicate that, once false of a beginning, stays false however the text goes on.

    On finished samples it is a `Condition`; samplers that build samples step by step also ask it
    about unfinished ones and give those up that have no chance left. Whoever writes the predicate
    promises that it stays false; samplers try the promise on draws of the prior.

    Args:
        predicate: `f(items)` or `f(items, contexts)` -> B values, each 0 or 1 (or a bool).
        name: taken from the predicate when empty.
        on_error: "worst" rules out the items on which the function raises, with a warning; "raise"
            stops.
    """


@dataclass(frozen=True)
class Likelihood:
    """Bayes' rule: the log-likelihood of an observation given the sample.

    Args:
        log_likelihood: `f(items)` or `f(items, contexts)` -> B values of log p(y | x), nats.
        scale: power of the likelihood in [0, inf); 1 is exact Bayes.
        name: taken from the function when empty.
        on_error: "worst" rules out the items on which the function raises, with a warning; "raise"
            stops.

    Raises:
        ConfigError: if scale is not in [0, inf).
    """

    log_likelihood: BatchFunction
    scale: float = 1.0
    name: str = ""
    on_error: OnError = "raise"

    def __post_init__(self) -> None:
        if not 0.0 <= self.scale < math.inf:
            raise ConfigError(f"Likelihood needs a finite scale >= 0, got {self.scale}")
        name = self.name or default_name(self.log_likelihood, "likelihood")
        object.__setattr__(self, "name", name)

    def log_weight(self, items: Sequence[Any], contexts: Sequence[Any] | None) -> Tensor:
        """Scale * log p(y | x), [B] nats; 0 everywhere at scale 0."""
        owner = f"Likelihood '{self.name}'"
        values = evaluate(self.log_likelihood, items, contexts, owner, on_error=self.on_error)
        return values * self.scale if self.scale > 0.0 else torch.zeros_like(values)


class Moments:
    """Features whose mean under the target is prescribed: E[phi_k] = mu_k.

    The target is the law closest to the prior with these means, p0(x) exp(lambda . phi(x)) / Z.
    `Target.fit_moments` finds lambda; until then there is no log-weight. Objects are not changed
    after construction.

    Args:
        means: wanted mean of each of K features; a key is a function of the batch,
            `f(items)` or `f(items, contexts)` -> B numbers, or a name in `features`.
        features: such functions by name.
        coefficients: lambda [K], nats per unit of the feature; None while unfitted.
        hard: features that equal a value always (a moment at the end of a 0/1 feature's range).
        name: "moments" when empty.

    Raises:
        ConfigError: if there is no mean, a mean is not finite, or a name is unknown.

    Reference:
        Khalifa, Elsahar, Dymetman (2021), section 3.1.
    """

    def __init__(
        self,
        means: Mapping[Any, float],
        features: Mapping[str, BatchFunction] | None = None,
        coefficients: Tensor | None = None,
        hard: Mapping[str, float] | None = None,
        name: str = "",
    ) -> None:
        if not means:
            raise ConfigError("Moments needs at least one wanted mean, got none")
        self.name = name or "moments"
        known = dict(features or {})
        self.functions = tuple(_feature(key, known) for key in means)
        self.names = unique_names(
            [k if isinstance(k, str) else default_name(k, "feature") for k in means]
        )
        self.means = torch.tensor([float(m) for m in means.values()], dtype=torch.float64)
        for label, mean in zip(self.names, self.means.tolist(), strict=True):
            if not math.isfinite(mean):
                raise ConfigError(f"Moments: the mean of '{label}' must be finite, got {mean}")
        self.coefficients = coefficients
        self.hard = dict(hard or {})

    def __repr__(self) -> str:
        wanted = ", ".join(
            f"{n}={m:g}" for n, m in zip(self.names, self.means.tolist(), strict=True)
        )
        return f"Moments({wanted}, {'unfitted' if self.coefficients is None else 'fitted'})"

    def features_of(self, items: Sequence[Any], contexts: Sequence[Any] | None) -> Tensor:
        """The features of every sample, [B, K] float64.

        Raises:
            NumericsError: if a feature is not finite.
        """
        columns = []
        for label, function in zip(self.names, self.functions, strict=True):
            values = evaluate(function, items, contexts, f"feature '{label}'")
            if bool((values == -torch.inf).any()):
                i = int((values == -torch.inf).nonzero()[0])
                raise NumericsError(
                    f"feature '{label}': sample {i} got -inf, expected a finite number; "
                    f"the item is {shown(items[i])}; to rule it out add a Condition"
                )
            columns.append(values)
        return torch.stack(columns, 1)

    def fitted(self, coefficients: Tensor, hard: Mapping[str, float]) -> Moments:
        """The same constraints with their natural parameters, as new evidence."""
        functions = dict(zip(self.names, self.functions, strict=True))
        means = dict(zip(self.names, self.means.tolist(), strict=True))
        return Moments(means, functions, coefficients, hard, self.name)

    def log_weight(self, items: Sequence[Any], contexts: Sequence[Any] | None) -> Tensor:
        """Lambda . phi(x), [B] nats, -inf where a hard feature differs from its value.

        Raises:
            ConfigError: if the coefficients were never fitted.
        """
        if self.coefficients is None:
            raise ConfigError(
                f"Moments '{self.name}' ({', '.join(self.names)}) has no coefficients yet; "
                "call target = target.fit_moments(rng=...) first"
            )
        values = self.features_of(items, contexts)
        total = values @ self.coefficients.to(torch.float64)
        for label, wanted in self.hard.items():
            off = values[:, self.names.index(label)] != wanted
            total = total.masked_fill(off, -torch.inf)
        return total


def _feature(key: BatchFunction | str, known: Mapping[str, BatchFunction]) -> BatchFunction:
    if not isinstance(key, str):
        return key
    if key in known:
        return known[key]
    near = get_close_matches(str(key), list(known), n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    raise ConfigError(
        f"Moments: no feature named {key!r}, known are {sorted(known)}{hint} "
        "Pass features={name: function} or use the function itself as the key"
    )
