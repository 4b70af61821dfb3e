"""A law led by a twist: every next token from p0 ψ, normalised token by token."""

from __future__ import annotations

import torch
from torch import Tensor

from esscher.core.law import Context, Draws, Samples
from esscher.kit.lm.generate import Decoder, generate_by_prompt
from esscher.kit.lm.token_model import TokenModel, TwistModule
from esscher.kit.lm.twist import log_psi

__all__ = ["GuidedLaw"]


class GuidedLaw:
    """q(v | x_<t) ∝ p0(v | x_<t) ψ(x_<t, v), which is the posterior itself where ψ is true.

    Args:
        prior: p0.
        twist: ψ, of that prior.

    Reference: Yang and Klein (2021, FUDGE), section 3.
    """

    def __init__(self, prior: TokenModel, twist: TwistModule) -> None:
        self.prior = prior
        self.twist = twist

    def sample(self, n: int, *, context: Context = None, rng: torch.Generator) -> Draws:
        """Draw n sequences; `context` is one prompt or n of them."""
        prior = self.prior
        prompts = prior.prompts(context, n)
        drawn = generate_by_prompt(self, prompts, max_new=prior.max_new, end=prior.end, rng=rng)
        return Draws(prior.of_sequences(drawn.x), drawn.log_prob)

    @torch.no_grad()
    def log_prob(self, x: Samples, *, context: Context = None) -> Tensor:
        """[B] float64, nats."""
        out = torch.zeros(len(x), dtype=torch.float64)
        for part in self.prior.passes(x, context=context):
            values = self.twist.values(self.twist.states(part.ids, part.mask))
            log_p0 = self.prior.token_logits(part.ids, part.mask).log_softmax(-1)
            log_q = (log_p0 + log_psi(values, bounded=self.twist.bounded)).log_softmax(-1)
            chosen = log_q.gather(1, part.target[:, None])[:, 0].double()
            out.index_add_(0, part.rows.repeat_interleave(part.lengths), chosen)
        return out

    def prefill(self, prompts: Tensor, owner: Tensor, max_new: int) -> tuple[Tensor, Decoder]:
        """Read prompts [P, t] once each; log p0 ψ [n, V] of what follows, and how to go on."""
        logits, tokens = self.prior.network.prefill(prompts, owner, max_new)
        worth, values = self.twist.prefill(prompts, owner, max_new)
        return logits.log_softmax(-1) + worth, _GuidedDecoder(tokens, values)


class _GuidedDecoder:
    """Two decoders of the same rows."""

    def __init__(self, tokens: Decoder, values: Decoder) -> None:
        self._tokens = tokens
        self._values = values

    def step(self, ids: Tensor) -> Tensor:
        return self._tokens.step(ids).log_softmax(-1) + self._values.step(ids)

    def select(self, rows: Tensor) -> None:
        self._tokens.select(rows)
        self._values.select(rows)
