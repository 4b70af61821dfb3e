"""Credit per token for forward KL: a learnt twist says what every next token is worth.

Under hard evidence φ the target's next-token law is p*(v|x_<t) = p0(v|x_<t) ψ(x_<t, v) / ψ(x_<t),
where the twist ψ(x_≤t) = E_p0[φ | x_≤t] is the chance that a prefix ends well, and

    KL(p*‖π) = const - 1/Z E_p0[ Σ_t Σ_v p0(v|x_<t) ψ(x_<t, v) log π(v|x_<t) ].

This is the gradient of `objectives.forward_kl` with its two expectations taken further: over the
rest of the sequence by the twist, over the next token by the sum. With the true twist it vanishes
at π = p* on every prefix, and what a draw costs is shared by all its prefixes. The twist is learnt
on the same draws by cross-entropy with λ-returns, whose value of a prefix is the sum above, so that
both agree. Where the prior seldom satisfies the evidence, half of the draws are led by the twist,
and all are weighted back to the prior.

Reference: Korbak et al. (2022) for the objective; Yang and Klein (2021, FUDGE) and Zhao et al.
(2024) for twists; Sutton and Barto (2018), section 12.8, for expected λ-returns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from esscher.align.propose import HalfAndHalf, Scored
from esscher.core.evidence import Condition
from esscher.core.law import Law
from esscher.core.target import Target
from esscher.errors import NumericsError
from esscher.kit.lm.causal import SmallLM
from esscher.kit.lm.guided import GuidedLaw
from esscher.kit.lm.language_model import LanguageModel
from esscher.kit.lm.muon import muon_and_adamw, scale_rates
from esscher.kit.lm.pretrain import cosine_lr
from esscher.kit.lm.scoring import Pass
from esscher.kit.lm.token_model import TokenModel
from esscher.kit.lm.twist import Twist

__all__ = [
    "HASTE",
    "Credit",
    "can_credit",
    "first_followed",
    "lambda_returns",
    "learn",
]

START = 0.4
"""Largest share of the fit before the policy follows, where the twist still knows too little."""
HASTE = 1.25
"""By how much the policy's learning rate grows with the share it waited for a better guide."""
GLANCE = 1 / 32
"""Share of the draws the policy is looked at on until then, for the record."""

LAMBDA = 0.9
"""Share of a prefix's goal that comes from further on; 1 is the outcome itself."""
UPDATE = 128
"""Draws per update of the twist: it learns faster from more updates, down to about this size."""
FOLLOWED = 20_480
"""Draws that the policy is trained on, spread over the rest of the fit: its gradient is far less
noisy than the twist's, and a pass through it costs as much."""
LR, CHOICE_LR, MATRIX_LR = 1e-3, 4e-3, 3e-3
"""Peak learning rates of the twist: embeddings and norms, differences of next tokens, matrices."""
WARMUP = 5
FLOOR = 0.02
ENOUGH = 0.05
"""Share of the prior's draws that has to satisfy the evidence for them to be enough."""
SOME = 0.004
"""Share without which nothing can be learnt to begin with."""


@dataclass
class Credit:
    """The twist and its optimisers.

    Attributes:
        twist: of the prior.
        optimisers: of the twist's parameters.
        rare: whether half of the draws are led by the twist.
    """

    twist: Twist
    optimisers: list[torch.optim.Optimizer]
    rare: bool = False

    @classmethod
    def start(cls, prior: SmallLM, satisfied: float) -> Credit:
        """A twist of the prior that gives every prefix the chance `satisfied`."""
        twist = prior.twist()
        twist.fill(math.log(satisfied))
        others = [(twist.level, LR), (twist.choice, CHOICE_LR), (twist.bias, CHOICE_LR)]
        optimisers = muon_and_adamw(
            twist.network,
            others,
            lr=LR,
            matrix_lr=MATRIX_LR,
            weight_decay=0.01,
            matrix_decay=0.01,
        )
        return cls(twist, optimisers, rare=satisfied < ENOUGH)

    def law(self, prior: SmallLM) -> Law:
        """What draws the next batch."""
        if not self.rare:
            return prior
        return HalfAndHalf(prior, GuidedLaw(cast("TokenModel", prior), self.twist))

    def state_dict(self) -> dict[str, Any]:
        """Everything as nested tensors and numbers."""
        optimisers = [o.state_dict() for o in self.optimisers]
        return {"twist": self.twist.state_dict(), "optimisers": optimisers}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.twist.load_state_dict(saved["twist"])
        for optimiser, own in zip(self.optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(own)


def can_credit(policy: LanguageModel, target: Target, satisfied: float) -> bool:
    """Whether tokens can be credited: networks of ours, hard evidence, and both outcomes seen."""
    hard = all(isinstance(e, Condition) for e in target.evidence)
    plain = target.prior_power == target.evidence_power == 1.0 and target.floor is None
    ours = isinstance(policy, SmallLM) and isinstance(target.prior, SmallLM)
    return ours and hard and plain and SOME <= satisfied < 1.0


def learn(
    credit: Credit,
    policy: SmallLM,
    prior: SmallLM,
    draws: Scored,
    *,
    z: Tensor,
    done: int,
    steps: int,
) -> tuple[float, Tensor, Tensor]:
    """Some updates of the twist on a batch of draws, and the policy's gradient on some of them.

    Args:
        credit: changed in place.
        policy: its gradient is added to; it does not move.
        prior: of the target.
        draws: of `Credit.law`.
        z: current estimate of Z, [] or [B] by context.
        done: steps taken.
        steps: steps planned.

    Returns:
        The twist's cross-entropy in nats per token, which draws the policy was trained on, and
        their log π.

    Raises:
        NumericsError: if the cross-entropy is not finite.
    """
    outcome = (draws.log_weight > -torch.inf).float()
    weight = (draws.log_prior - draws.log_q).exp().float()
    push = (weight / z).float()
    scale_rates(credit.optimisers, cosine_lr(done, steps, 1.0, WARMUP, FLOOR))
    n = len(outcome)
    first = first_followed(steps, n)
    share = min(1.0, max(0.125, FOLLOWED / ((steps - first) * n))) if done >= first else GLANCE
    updates = [
        rows.tensor_split([math.ceil(share * len(rows))])
        for rows in torch.arange(n).tensor_split(tuple(range(UPDATE, n, UPDATE)))
    ]
    seen = torch.cat([followed for followed, _ in updates])
    log_pi = torch.zeros(n, dtype=torch.float64)
    total = 0.0
    for followed, rest in updates:
        credit.twist.zero_grad(set_to_none=True)
        for part in _passes(prior, draws, followed):
            worth, loss = _learn_twist(credit.twist, prior, part, outcome, weight)
            total += loss
            worth *= _by_token(push, part)[:, None] / len(seen)
            log_pi[part.rows] = _follow(policy, worth, part)
        for part in _passes(prior, draws, rest):
            total += _learn_twist(credit.twist, prior, part, outcome, weight)[1]
        _update(credit, int(draws.x.lengths[followed].sum() + draws.x.lengths[rest].sum()))
    if not math.isfinite(total):
        raise NumericsError(f"the twist's cross-entropy is {total} after {done} steps")
    return total / int(draws.x.lengths.sum()), seen, log_pi[seen]


def first_followed(steps: int, batch: int) -> int:
    """The step from which the policy is trained: late, but in time for `FOLLOWED` draws."""
    return int(steps * min(START, max(0.0, 1 - FOLLOWED / (steps * batch))))


def _update(credit: Credit, n_tokens: int) -> None:
    """Move the twist by the mean gradient over tokens."""
    for p in credit.twist.parameters():
        if p.grad is not None:
            p.grad.div_(n_tokens)
    nn.utils.clip_grad_norm_(credit.twist.parameters(), 1.0)
    for optimiser in credit.optimisers:
        optimiser.step()


def _passes(prior: SmallLM, draws: Scored, rows: Tensor) -> Iterator[Pass]:
    """The given draws in passes whose rows count from the whole batch."""
    context = None if draws.context is None else [draws.context[i] for i in rows.tolist()]
    for part in prior.passes(draws.x.take(rows), context=context):
        yield part._replace(rows=rows[part.rows])


def _by_token(values: Tensor, part: Pass) -> Tensor:
    """Numbers of draws [B] for every token [N] of a pass."""
    return values[part.rows].repeat_interleave(part.lengths)


def _learn_twist(
    twist: Twist, prior: SmallLM, part: Pass, outcome: Tensor, weight: Tensor
) -> tuple[Tensor, float]:
    """Add the gradient of the cross-entropy; p0 ψ of all next tokens [N, V], and the sum in nats.

    The value ψ(x_<t) is the sum over next tokens; a prefix's goal is its expected λ-return, and it
    counts by the weight [B] of its draw.
    """
    with torch.enable_grad():
        states = twist.states(part.ids, part.mask)
        chosen = twist.values_of(states, part.target)
    with torch.no_grad():
        chance = twist.values(states).sigmoid_()
        worth = prior.token_logits(part.ids, part.mask).softmax(-1).mul_(chance)
        goal = lambda_returns(worth.sum(-1), outcome[part.rows], part.lengths, LAMBDA)
    with torch.enable_grad():
        loss = nn.functional.binary_cross_entropy_with_logits(
            chosen, goal, _by_token(weight, part), reduction="sum"
        )
        torch.autograd.backward(loss)
    return worth, loss.item()


def _follow(policy: SmallLM, weight: Tensor, part: Pass) -> Tensor:
    """Add the policy's gradient, of cross-entropy with weights [N, V]; log π of the rows [b]."""
    with torch.enable_grad():
        log_probs = policy.token_logits(part.ids, part.mask).log_softmax(-1)
        torch.autograd.backward(-(weight * log_probs).sum())
    drawn = log_probs.detach().gather(1, part.target[:, None])[:, 0].double()
    owner = torch.arange(len(part.rows)).repeat_interleave(part.lengths)
    return torch.zeros(len(part.rows), dtype=torch.float64).index_add(0, owner, drawn)


def lambda_returns(value: Tensor, outcome: Tensor, lengths: Tensor, lam: float) -> Tensor:
    """Expected λ-returns of every token: G_t = (1-λ) ψ(x_≤t) + λ G_t+1, and φ at the last token.

    Args:
        value: [N] ψ(x_<t) of every token, row after row; after token t that is entry t+1.
        outcome: [b] φ of the finished sequences, in {0, 1}.
        lengths: [b] tokens per row, summing to N, each at least 1.
        lam: λ in [0, 1].

    Returns:
        [N], in the order of the values.
    """
    last = lengths.cumsum(0) - 1
    goal = torch.empty_like(value)
    goal[last] = outcome.to(value.dtype)
    for back in range(1, int(lengths.max())):
        at = last[lengths > back] - back
        goal[at] = (1 - lam) * value[at + 1] + lam * goal[at + 1]
    return goal
