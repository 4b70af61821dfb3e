"""Sequential Monte Carlo over token sequences, plain or guided by a twist.

Particles grow by a token at a time. With a twist ψ, what a prefix is worth, the targets on the
way are p0(x_≤t) ψ(x_≤t) and tokens are drawn from q(v | x_<t) ∝ π(v | x_<t) ψ(x_<t, v), where the
proposal π is p0 unless another model is given. The weight grows by p0 ψ(x_<t, v) / (q ψ(x_<t)),
which for π = p0 is Σ_v p0(v | x_<t) ψ(x_<t, v) / ψ(x_<t) whatever is drawn; a sequence that ends
has φ(x) in place of ψ. The estimate of Z is unbiased for every ψ and every π that covers p0 φ, and
exact for π = p0 and ψ(x_≤t) = E_p0[φ | x_≤t].

Where a test can tell that a prefix has no chance left, its particle dies at once, or, rejecting,
is never made: every token is then drawn from π among those the test allows (`awrs`).

Reference: Del Moral (2004); Zhao et al. (2024), "Probabilistic inference in language models via
twisted sequential Monte Carlo".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from esscher.core.importance import effective_sample_size
from esscher.errors import ConfigError, NumericsError
from esscher.kit.lm.awrs import first_allowed
from esscher.kit.lm.generate import Decodable, Decoder, draw
from esscher.kit.lm.sequences import Sequences

__all__ = ["Particles", "smc"]

Weigh = Callable[[Sequences], Tensor]
"""Sequences [b] -> evidence log-weights log φ [b], nats; -inf rules one out."""
Allowed = Callable[[Sequences], Tensor]
"""Sequences [b], some of them unfinished -> [b] bool, False only where no continuation has weight.
"""


@dataclass(frozen=True)
class Particles:
    """K weighted sequences from one run.

    Attributes:
        x: the sequences; where particles were resampled, some share their beginning.
        log_weight: [K] log of each one's share of the target, nats; -inf for a dead one.
        log_z: its exponential is an unbiased estimate of Z; -inf if every particle died.
        resampled: lengths in tokens at which particles were resampled.
    """

    x: Sequences
    log_weight: Tensor
    log_z: float
    resampled: list[int]


@torch.no_grad()
def smc(
    network: Decodable,
    prompt: Tensor,
    k: int,
    weigh: Weigh,
    *,
    guide: Decodable | None = None,
    proposal: Decodable | None = None,
    allowed: Allowed | None = None,
    rejecting: bool = False,
    resample_below: float = 0.5,
    max_new: int,
    end: int,
    rng: torch.Generator,
) -> Particles:
    """One run of K particles.

    Args:
        network: p0, with dropout off.
        prompt: [t] int64 ids including the start token.
        k: particles, at least 1.
        weigh: the evidence; called with the sequences that have just ended.
        guide: gives log ψ(x_<t, v) [B, V] where a network gives logits; None for ψ = 1.
        proposal: π, with the tokens of p0; None for p0 itself.
        allowed: what has a chance left; None where that is not known before the end.
        rejecting: draw tokens among the allowed ones instead of letting particles die; without a
            guide.
        resample_below: resample once the effective share of the particles falls below it, in
            [0, 1]; 0 never does, and the run is importance sampling.
        max_new: most tokens per sequence, at least 1.
        end: id that ends a sequence.
        rng: source of randomness.

    Raises:
        ConfigError: if a setting is out of range.
        NumericsError: if a weight is NaN or +inf.
    """
    if k < 1 or max_new < 1 or not 0 <= resample_below <= 1:
        raise ConfigError(
            "smc needs k >= 1, max_new >= 1 and resample_below in [0, 1], got "
            f"{k}, {max_new} and {resample_below}"
        )
    if rejecting and (allowed is None or guide is not None):
        raise ConfigError("rejecting needs a test of what is allowed, and no guide")
    cloud = _Cloud.empty(k, max_new, end)
    models = {"p0": network, "psi": guide, "pi": proposal}
    heads = {
        name: _Head.start(model, prompt, k, max_new)
        for name, model in models.items()
        if model is not None
    }
    uniforms = torch.rand(max_new, k, 2, dtype=torch.float64, generator=rng)
    for t in range(max_new):
        alive = cloud.running.nonzero()[:, 0]
        values = {name: head.values for name, head in heads.items()}
        if rejecting and allowed is not None:
            chosen = cloud.grow_allowed(alive, values, allowed, rng)
        else:
            chosen = cloud.grow(alive, values, uniforms[t, alive, :1])
        ended = alive[(chosen == end) | (t + 1 == max_new)]
        cloud.close(ended, weigh)
        if allowed is not None and not rejecting:
            cloud.condemn(allowed)
        cloud.bury()
        row = torch.zeros(k, dtype=torch.long)
        row[alive] = torch.arange(len(alive))
        if bool(cloud.running.any()) and cloud.effective_share() < resample_below:
            row = row[cloud.resample(float(uniforms[t, 0, 1]))]
        left = cloud.running.nonzero()[:, 0]
        if not len(left):
            break
        for head in heads.values():
            head.advance(row[left], cloud.tokens[left, t])
    return cloud.finish()


@dataclass
class _Head:
    """A network's values [B, V] for what follows each running particle, and how to go on."""

    values: Tensor
    decoder: Decoder

    @classmethod
    def start(cls, network: Decodable, prompt: Tensor, k: int, max_new: int) -> _Head:
        owner = torch.zeros(k, dtype=torch.long)
        return cls(*network.prefill(prompt[None], owner, max_new))

    def advance(self, rows: Tensor, ids: Tensor) -> None:
        self.decoder.select(rows)
        self.values = self.decoder.step(ids)


@dataclass
class _Cloud:
    """K particles on their way: [K] each, and tokens [K, max_new]."""

    tokens: Tensor
    lengths: Tensor
    running: Tensor
    log_w: Tensor
    log_psi: Tensor
    log_z: float
    end: int
    resampled: list[int]

    @classmethod
    def empty(cls, k: int, max_new: int, end: int) -> _Cloud:
        zeros = torch.zeros(k, dtype=torch.float64)
        count = torch.zeros(k, dtype=torch.long)
        tokens = torch.full((k, max_new), end)
        return cls(tokens, count, count == 0, zeros, zeros.clone(), 0.0, end, [])

    def grow(self, alive: Tensor, values: dict[str, Tensor], uniform: Tensor) -> Tensor:
        """Draw the next token [A] of the running particles and weigh them for it."""
        log_p = values["p0"].double().log_softmax(-1)
        log_pi = values["pi"].double().log_softmax(-1) if "pi" in values else log_p
        if len(values) == 1:
            chosen, _ = draw(log_p, uniform)
        else:
            log_psi = values["psi"].double() if "psi" in values else torch.zeros_like(log_p)
            guided = log_pi + log_psi
            worth = guided.logsumexp(-1)
            dead = worth == -torch.inf
            chosen, _ = draw(torch.where(dead[:, None], log_p, guided), uniform)
            at = chosen[:, None]
            gained = (log_p - log_pi).gather(1, at)[:, 0] if "pi" in values else 0.0
            self.log_w[alive] += torch.where(dead, -torch.inf, worth - self.log_psi[alive] + gained)
            self.log_psi[alive] = torch.where(dead, 0.0, log_psi.gather(1, at)[:, 0])
        self.tokens[alive, self.lengths[alive]] = chosen
        self.lengths[alive] += 1
        return chosen

    def grow_allowed(
        self, alive: Tensor, values: dict[str, Tensor], allowed: Allowed, rng: torch.Generator
    ) -> Tensor:
        """Draw the next token [A] among those that are allowed; a particle without one dies."""

        def test(rows: Tensor, tokens: Tensor) -> Tensor:
            index = alive[rows]
            self.tokens[index, self.lengths[index]] = tokens
            return allowed(self.sequences(index, self.lengths[index] + 1))

        log_p = values["p0"].double().log_softmax(-1)
        log_pi = values["pi"].double().log_softmax(-1) if "pi" in values else log_p
        chosen, log_w = first_allowed(log_pi, test, rng=rng)
        at = chosen[:, None]
        gained = (log_p - log_pi).gather(1, at)[:, 0]
        self.log_w[alive] += torch.where(log_w > -torch.inf, log_w + gained, -torch.inf)
        self.tokens[alive, self.lengths[alive]] = chosen
        self.lengths[alive] += 1
        return chosen

    def condemn(self, allowed: Allowed) -> None:
        """Take the weight from particles that have no chance left."""
        index = (self.running & (self.log_w > -torch.inf)).nonzero()[:, 0]
        if len(index):
            self.log_w[index[~allowed(self.sequences(index))]] = -torch.inf

    def bury(self) -> None:
        """Stop particles without weight."""
        self.running &= self.log_w > -torch.inf

    def close(self, ended: Tensor, weigh: Weigh) -> None:
        """Put the evidence in place of the twist for particles that have ended."""
        if not len(ended):
            return
        self.running[ended] = False
        ended = ended[self.log_w[ended] > -torch.inf]
        if not len(ended):
            return
        self.log_w[ended] += weigh(self.sequences(ended)).double().cpu() - self.log_psi[ended]
        bad = self.log_w.isnan() | (self.log_w == torch.inf)
        if bool(bad.any()):
            i = int(bad.nonzero()[0])
            raise NumericsError(
                f"particle {i} has log-weight {float(self.log_w[i])}: the evidence or the twist "
                "gave NaN or +inf"
            )

    def sequences(self, index: Tensor, lengths: Tensor | None = None) -> Sequences:
        """Particles as sequences, of their own lengths unless others are given."""
        lengths = self.lengths[index] if lengths is None else lengths
        last = self.tokens[index, lengths - 1]
        return Sequences(self.tokens[index, : int(lengths.max())], lengths, last == self.end)

    def effective_share(self) -> float:
        if bool((self.log_w == -torch.inf).all()):
            return 1.0
        return float(effective_sample_size(self.log_w)) / len(self.log_w)

    def resample(self, uniform: float) -> Tensor:
        """Systematic resampling by weight; the ancestor [K] of every particle."""
        k = len(self.log_w)
        self.log_z += float(self.log_w.logsumexp(0)) - math.log(k)
        share = self.log_w.softmax(0).cumsum(0)
        places = (torch.arange(k, dtype=torch.float64) + uniform) / k
        ancestor = torch.searchsorted(share, places * share[-1], right=True).clamp_(max=k - 1)
        for name in ("tokens", "lengths", "running", "log_psi"):
            setattr(self, name, getattr(self, name)[ancestor])
        self.log_w = torch.zeros(k, dtype=torch.float64)
        self.resampled.append(int(self.lengths.max()))
        return ancestor

    def finish(self) -> Particles:
        total = float(self.log_w.logsumexp(0))
        share = self.log_w - total if total > -math.inf else self.log_w
        x = self.sequences(torch.arange(len(share)))
        log_z = self.log_z + total - math.log(len(share))
        return Particles(x, share, log_z, self.resampled)
