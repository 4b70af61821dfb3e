"""A token that is allowed, found by rejection, with an unbiased weight for what that costs.

Testing every token of a vocabulary is dear; most of a good model's mass lies on few. Tokens are
drawn from p without replacement until one is allowed. The first allowed one is then distributed as
p on the allowed set A. Its weight has to be p(A) on average whatever was drawn: one more draw u
from the tokens not yet seen gives

    w = p(v) + 1{u ∈ A} (1 - p(seen)),

whose expectation given v and all that was seen is p(A), because of what was seen only v is
allowed. More such draws, each without replacement, are averaged.

Reference: Lipkin et al. (2025), "Fast controlled generation from language models with adaptive
weighted rejection sampling", for the sampler; Des Raj (1956) for the estimator.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["first_allowed"]

Test = Callable[[Tensor, Tensor], Tensor]
"""(rows [b], tokens [b]) -> whether the token may follow the row's prefix, [b] bool."""


def first_allowed(
    log_p: Tensor, test: Test, *, rng: torch.Generator, extra: int = 2
) -> tuple[Tensor, Tensor]:
    """An allowed token for every row.

    Args:
        log_p: [A, V] normalised log-probabilities.
        test: which tokens are allowed; called with one candidate of every row still open.
        rng: source of randomness.
        extra: draws after the first allowed one that the weight is averaged over, at least 1.

    Returns:
        Tokens [A] and log-weights [A], nats: E[w 1{v}] = p(v) for every allowed v. A row without
        an allowed token gets weight -inf.
    """
    n, vocab = log_p.shape
    noise = -(-torch.rand(n, vocab, dtype=torch.float64, generator=rng).log()).log()
    # Perturbed by Gumbel noise, the order of log p is a draw without replacement.
    order = (log_p.double() + noise).argsort(1, descending=True)
    p = log_p.double().exp().gather(1, order)
    unseen = (1 - p.cumsum(1)).clamp(min=0.0)
    rows, place = torch.arange(n), torch.zeros(n, dtype=torch.long)
    chosen = torch.full((n,), -1)
    found = torch.zeros(n, dtype=torch.float64)
    total, draws = torch.zeros(n, dtype=torch.float64), torch.zeros(n, dtype=torch.long)
    while len(rows):
        at = place[rows]
        token = order[rows, at]
        fine = test(rows, token) & (p[rows, at] > 0)
        later = chosen[rows] >= 0
        before = torch.where(at > 0, unseen[rows, (at - 1).clamp(min=0)], 1.0)
        total[rows[later]] += (found[rows] + fine * before)[later]
        draws[rows[later]] += 1
        first = rows[fine & ~later]
        chosen[first] = order[first, place[first]]
        found[rows[fine]] += p[rows, at][fine]
        place[rows] += 1
        spent = (place[rows] >= vocab) | (unseen[rows, at] <= 0.0)
        rows = rows[(draws[rows] < extra) & ~spent]
    # Where the vocabulary ran out, all that is allowed was found.
    weight = torch.where(draws < extra, found, total / draws.clamp(min=1))
    return torch.where(chosen < 0, 0, chosen), weight.log()
