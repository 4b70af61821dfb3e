"""Credit per token for forward KL: a learnt twist says which token gained or lost the evidence.

The sequence-level estimate gives every token of a draw the same advantage, and with it the noise
of all the others. The twist ψ(x_≤t) = E_p0[φ | x_≤t] splits it: token t gets

    A_t = (ψ(x_≤t) - ψ(x_<t) π(x_t|x_<t) / p0(x_t|x_<t)) / Z,

the Rao-Blackwellised advantage with the per-token form of the baseline π/q. With the optimal twist
its expectation is the exact gradient of KL(p*‖π) and every A_t is 0 at π = p*; with a learnt one
the result is as good as the twist.

Reference: the gradient is that of `objectives.forward_kl`; splitting it by conditional expectation
follows Schulman et al. (2016, λ = 0) with the twist of Zhao et al. (2024) as the value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from esscher.align.propose import Scored
from esscher.core.law import Context
from esscher.kit.lm.language_model import LanguageModel
from esscher.kit.lm.sequences import Sequences
from esscher.kit.lm.twist import Twist

__all__ = ["Bank", "TokenModel", "TwistState", "descend_by_token", "learn_twist"]


@runtime_checkable
class TokenModel(LanguageModel, Protocol):
    """A language model that can be credited token by token."""

    def token_log_prob_chunks(
        self, x: Sequences, *, context: Context = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """(index [b], log-probability [N] of every token, row after row, with graph) pairs."""
        ...

    def twist(self) -> Twist:
        """An untrained twist for this model as the prior."""
        ...


@dataclass
class Bank:
    """The prior's draws so far: sequences, prompts and whether the evidence allows each.

    Attributes:
        x: all sequences, None while empty.
        context: their prompts, or None.
        allowed: [B] float64, φ in {0, 1}.
    """

    x: Sequences | None = None
    context: list[str] | None = None
    allowed: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))

    def add(self, draws: Scored) -> None:
        """Append a batch."""
        self.x = draws.x if self.x is None else Sequences.join([self.x, draws.x])
        if draws.context is not None:
            self.context = [*(self.context or ()), *draws.context]
        allowed = (draws.log_weight > -torch.inf).double()
        self.allowed = torch.cat([self.allowed, allowed])

    def take(self, index: Tensor) -> tuple[Sequences, list[str] | None, Tensor]:
        """Sequences, prompts and φ at the index."""
        chosen = None if self.context is None else [self.context[i] for i in index.tolist()]
        return cast("Sequences", self.x).take(index), chosen, self.allowed[index]

    def state_dict(self) -> dict[str, Any]:
        """Everything as tensors and texts."""
        x = cast("Sequences", self.x)
        parts = {"tokens": x.tokens, "lengths": x.lengths, "finished": x.finished}
        return {**parts, "context": self.context, "allowed": self.allowed}

    @classmethod
    def from_state_dict(cls, saved: dict[str, Any]) -> Bank:
        """What `state_dict` gave."""
        x = Sequences(saved["tokens"], saved["lengths"], saved["finished"])
        return cls(x, saved["context"], saved["allowed"])


@dataclass
class TwistState:
    """The twist, its optimiser and the draws it learns from."""

    twist: Twist
    optimiser: torch.optim.Optimizer
    bank: Bank

    @classmethod
    def start(cls, prior: TokenModel) -> TwistState:
        """An untrained twist on the prior."""
        twist = prior.twist()
        optimiser = torch.optim.AdamW(
            twist.parameters(), lr=0.0, betas=(0.9, 0.98), weight_decay=0.01, fused=True
        )
        return cls(twist, optimiser, Bank())

    def state_dict(self) -> dict[str, Any]:
        """Everything as nested tensors."""
        optimiser, bank = self.optimiser.state_dict(), self.bank.state_dict()
        return {"twist": self.twist.state_dict(), "optimiser": optimiser, "bank": bank}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.twist.load_state_dict(saved["twist"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.bank = Bank.from_state_dict(saved["bank"])


def learn_twist(state: TwistState, index: Tensor, lr: float) -> float:
    """One step of cross-entropy on the bank's draws at `index`; returns nats per prefix."""
    x, context, allowed = state.bank.take(index)
    for group in state.optimiser.param_groups:
        group["lr"] = lr
    state.optimiser.zero_grad(set_to_none=True)
    n = int(x.lengths.sum())
    total = 0.0
    with torch.enable_grad():
        for rows, log_odds in state.twist.chunks(x, context):
            label = allowed[rows].repeat_interleave(x.lengths[rows]).to(log_odds.dtype)
            loss = nn.functional.binary_cross_entropy_with_logits(log_odds, label, reduction="sum")
            torch.autograd.backward(loss / n)
            total += loss.item()
    nn.utils.clip_grad_norm_(state.twist.parameters(), 1.0)
    state.optimiser.step()
    return total / n


def descend_by_token(
    policy: TokenModel, prior: TokenModel, state: TwistState, index: Tensor
) -> tuple[Tensor, Tensor]:
    """Add the gradient of KL(p*‖π) on the bank's draws at `index`.

    Returns:
        Their log π and log p0, [B] float64, nats, before the policy moves.
    """
    x, context, allowed = state.bank.take(index)
    z = float(state.bank.allowed.mean())
    log_pi, log_prior = torch.empty(2, len(index), dtype=torch.float64)
    with torch.enable_grad():
        policies = policy.token_log_prob_chunks(x, context=context)
        with torch.no_grad():
            others = list(
                zip(
                    prior.token_log_prob_chunks(x, context=context),
                    state.twist.chunks(x, context),
                    strict=True,
                )
            )
        for (rows, token_log_pi), ((_, token_log_prior), (_, log_odds)) in zip(
            policies, others, strict=True
        ):
            lengths = x.lengths[rows]
            ratio = (token_log_pi.detach() - token_log_prior).exp()
            advantage = token_advantages(log_odds.sigmoid(), ratio, allowed[rows], lengths) / z
            torch.autograd.backward(-(advantage * token_log_pi).sum() / len(index))
            log_pi[rows] = _row_sums(token_log_pi.detach(), lengths)
            log_prior[rows] = _row_sums(token_log_prior, lengths)
    return log_pi, log_prior


def token_advantages(value: Tensor, ratio: Tensor, outcome: Tensor, lengths: Tensor) -> Tensor:
    """ψ(x_≤t) - ψ(x_<t) π_t/p0_t for every token, [N], times Z.

    Args:
        value: [N] ψ(x_<t) of every token, row after row.
        ratio: [N] π(x_t|x_<t) / p0(x_t|x_<t).
        outcome: [B] φ of the whole sequence, the exact ψ after its last token.
        lengths: [B] tokens per row, summing to N.
    """
    after = torch.cat([value[1:], value[:1]])
    last = lengths.cumsum(0) - 1
    after[last] = outcome.to(value.dtype)
    return after - value * ratio


def _row_sums(values: Tensor, lengths: Tensor) -> Tensor:
    rows = torch.arange(len(lengths)).repeat_interleave(lengths)
    return torch.zeros(len(lengths), dtype=torch.float64).index_add(0, rows, values.double())
