"""The target: a prior tilted by evidence, P(x) = p0(x) exp(sum of log-weights), unnormalised."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from esscher.core.batch import checked, shown, unique_names
from esscher.core.evidence import Evidence, Moments, PrefixCondition
from esscher.core.law import Context, Law, Samples, Table, contexts_of, items_of
from esscher.core.moments import MomentFit, fit_moments, hand_back
from esscher.errors import ConfigError, DataError, InfeasibleError

__all__ = ["Target"]


class Target:
    """Prior × evidence: the law that should be sampled or approximated.

        log P(x) = prior_power * log p0(x) + evidence_power * max(sum_e log w_e(x), -floor)

    Targets are not changed after construction; every method that alters one returns a new one.

    Args:
        prior: the law before the evidence.
        evidence: any number of pieces; independent log-weights add.
        prior_power: power of the prior, in [0, inf).
        evidence_power: power of all evidence, in [0, inf); see `tempered`.
        floor: lowest summed evidence log-weight, nats, in [0, inf); None for no floor. It makes
            hard evidence soft, which divergences such as reverse KL need.

    Attributes:
        names: the evidence names, made unique with _2, _3, ...
        moment_fit: how the `Moments` were fitted; None before `fit_moments`.

    Raises:
        ConfigError: if a power or the floor is out of range.
        DataError: if something given as evidence is not.
    """

    def __init__(
        self,
        prior: Law,
        *evidence: Evidence,
        prior_power: float = 1.0,
        evidence_power: float = 1.0,
        floor: float | None = None,
    ) -> None:
        named = {"prior_power": prior_power, "evidence_power": evidence_power, "floor": floor}
        for key, value in named.items():
            if value is not None and not 0.0 <= value < math.inf:
                raise ConfigError(f"Target needs a finite {key} >= 0, got {value}")
        for i, piece in enumerate(evidence):
            if not isinstance(piece, Evidence):
                raise DataError(
                    f"Target: evidence {i} must have a name and log_weight(items, contexts), got "
                    f"{shown(piece)}; wrap a function in Reward, Condition or Likelihood"
                )
        self.prior = prior
        self.evidence = evidence
        self.names = unique_names([e.name for e in evidence])
        self.prior_power = prior_power
        self.evidence_power = evidence_power
        self.floor = floor
        self.moment_fit: MomentFit | None = None

    def __repr__(self) -> str:
        return f"Target({type(self.prior).__name__} × {', '.join(self.names) or 'no evidence'})"

    def terms(self, x: Samples, context: Context = None) -> dict[str, Tensor]:
        """Log-weight [B] of every piece of evidence by name, nats, at its power, before the floor.

        Raises:
            NumericsError: naming term, sample and value where one is NaN or +inf.
            DataError: if a term does not return one number per sample.
        """
        items = items_of(self.prior, x)
        return self._terms(items, contexts_of(context, len(items)))

    def log_weight(self, x: Samples, context: Context = None) -> Tensor:
        """Summed evidence log-weight with the floor applied, [B] float64, nats, below inf."""
        items = items_of(self.prior, x)
        return self._weigh(items, contexts_of(context, len(items)))

    def has_chance(self, items: Sequence[Any], context: Context = None) -> Tensor:
        """[B] bool, False where a `PrefixCondition` rules every continuation out.

        Args:
            items: B beginnings of samples, in the form in which evidence sees samples.
            context: one for all, or a list of B.
        """
        chance = torch.ones(len(items), dtype=torch.bool)
        if self.floor is not None or self.evidence_power == 0.0:
            return chance
        contexts = contexts_of(context, len(items))
        for piece in self.evidence:
            if isinstance(piece, PrefixCondition):
                chance &= piece.log_weight(items, contexts).cpu() > -torch.inf
        return chance

    def log_density(
        self, x: Samples, context: Context = None, prior_log_prob: Tensor | None = None
    ) -> Tensor:
        """Unnormalised log-density, [B] float64, nats; -inf allowed, NaN never.

        Args:
            x: B samples in the prior's form.
            context: one for all samples, or a list of B.
            prior_log_prob: [B] log p0(x) where the caller knows it already.

        Raises:
            NumericsError: naming the term (or the prior), sample and value that is NaN or +inf.
        """
        known = prior_log_prob
        if known is None:
            known = self.prior.log_prob(x, context=context)
        items = items_of(self.prior, x)
        prior = checked(known.detach().to(torch.float64), items, "the prior")
        weight = self._weigh(items, contexts_of(context, len(items))).to(prior.device)
        return weight if self.prior_power == 0.0 else self.prior_power * prior + weight

    def tempered(self, a: float) -> Self:
        """All evidence to the power a in [0, 1]: a path from the prior (0) to this target (1).

        Where evidence is -inf it stays -inf for every a > 0 and is 0 at a = 0.

        Raises:
            ConfigError: if a is not in [0, 1].
        """
        if not 0.0 <= a <= 1.0:
            raise ConfigError(f"tempered needs a in [0, 1], got {a}")
        return self._with(evidence_power=self.evidence_power * a)

    def with_evidence_power(self, a: float) -> Self:
        """The same prior and evidence with all evidence to the power a, whatever it was before.

        Raises:
            ConfigError: if a is negative or not finite.
        """
        return self._with(evidence_power=a)

    def with_floor(self, nats: float) -> Self:
        """The target whose summed evidence log-weight is max(·, -nats).

        Args:
            nats: in [0, inf). Hard evidence of prior probability Z then leaves about
                exp(-nats) (1 - Z) / Z of the target's mass outside.
        """
        power = self.evidence_power
        return self._with(floor=nats / power if power > 0.0 else nats)

    def given(self, *evidence: Evidence) -> Self:
        """This target with further evidence."""
        return self._with(evidence=self.evidence + evidence)

    def table(self, enumeration: Samples | None = None, context: Context = None) -> Table:
        """The exact posterior as a `Table`, whose `log_z` is log Z.

        Args:
            enumeration: every sample once; by default `prior.enumerate()`.
            context: one context for all.

        Raises:
            ConfigError: if the prior cannot be enumerated and no enumeration is given.
            InfeasibleError: if no sample has positive density.
        """
        if enumeration is None:
            enumerate_prior = getattr(self.prior, "enumerate", None)
            if enumerate_prior is None:
                raise ConfigError(
                    f"{type(self.prior).__name__} has no enumerate(); pass every sample once as "
                    "enumeration, or estimate with log_z and the samplers"
                )
            enumeration = enumerate_prior()
        log_density = self.log_density(enumeration, context)
        if bool((log_density == -torch.inf).all()):
            raise InfeasibleError(
                f"prior and evidence contradict each other: none of {len(log_density)} samples has "
                f"positive density; {self.verdict(enumeration, context)}; drop or soften a term"
            )
        return Table(log_density, items_of(self.prior, enumeration))

    def verdict(self, x: Samples, context: Context = None) -> str:
        """Which terms reject the samples x, worst first, as text for messages."""
        parts = []
        for name, term in self.terms(x, context).items():
            killed = int((term == -torch.inf).sum())
            finite = term[term > -torch.inf]
            level = f", {float(finite.mean()):.3g} nats on average" if len(finite) else ""
            parts.append((killed, f"'{name}' rules out {killed} of {len(term)}{level}"))
        parts.sort(key=lambda part: -part[0])
        return "; ".join(text for _, text in parts) or "there is no evidence"

    def fit_moments(
        self,
        n: int = 10_000,
        *,
        rng: torch.Generator,
        proposal: Law | None = None,
        context: Context = None,
    ) -> Self:
        """The target with every `Moments` fitted on n draws, all of them jointly.

        Args:
            n: draws from the proposal.
            rng: source of randomness.
            proposal: any law that covers the target; the prior by default.
            context: one for all draws.

        Returns:
            A new target; its `moment_fit` says how well it went.

        Raises:
            ConfigError: if there are no `Moments`, or the target is tempered or floored.
            InfeasibleMomentsError: if no tilt of the draws has the wanted means.
        """
        if not (moments := [e for e in self.evidence if isinstance(e, Moments)]):
            raise ConfigError("fit_moments: the target has no Moments evidence to fit")
        if self.evidence_power != 1.0 or self.floor is not None:
            raise ConfigError("fit_moments comes before tempered and with_floor, not after")
        law = self.prior if proposal is None else proposal
        x, log_q = law.sample(n, context=context, rng=rng)
        rest = Target(
            self.prior,
            *(e for e in self.evidence if not isinstance(e, Moments)),
            prior_power=self.prior_power,
        )
        items = items_of(self.prior, x)
        contexts = contexts_of(context, len(items))
        fit = fit_moments(
            torch.cat([m.features_of(items, contexts) for m in moments], 1),
            torch.cat([m.means for m in moments]),
            rest.log_density(x, context) - log_q.to(torch.float64),
            names=unique_names([name for m in moments for name in m.names]),
        )
        fitted = self._with(evidence=hand_back(self.evidence, fit))
        fitted.moment_fit = fit
        return fitted

    def _terms(self, items: Sequence[Any], contexts: Sequence[Any] | None) -> dict[str, Tensor]:
        terms = {}
        for name, piece in zip(self.names, self.evidence, strict=True):
            weight = piece.log_weight(items, contexts).to(torch.float64)
            weight = checked(weight, items, f"evidence '{name}'")
            # 0 * -inf is NaN: at power 0 the evidence is silent.
            power = self.evidence_power
            terms[name] = weight * power if power > 0.0 else torch.zeros_like(weight)
        return terms

    def _weigh(self, items: Sequence[Any], contexts: Sequence[Any] | None) -> Tensor:
        total = torch.zeros(len(items), dtype=torch.float64)
        total = sum((t.cpu() for t in self._terms(items, contexts).values()), total)
        return total if self.floor is None else total.clamp(min=-self.floor * self.evidence_power)

    def _with(
        self,
        *,
        evidence: Sequence[Evidence] | None = None,
        evidence_power: float | None = None,
        floor: float | None = None,
    ) -> Self:
        new = type(self)(
            self.prior,
            *(self.evidence if evidence is None else evidence),
            prior_power=self.prior_power,
            evidence_power=self.evidence_power if evidence_power is None else evidence_power,
            floor=self.floor if floor is None else floor,
        )
        new.moment_fit = self.moment_fit
        return new
