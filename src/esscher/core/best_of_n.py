"""Best-of-n: draws, the law they come from, and the bound often taken for its distance."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from esscher.core.estimate import Estimate, bootstrap
from esscher.core.law import Context, Law, Table, take
from esscher.core.sample import SampleResult, check_counts
from esscher.core.target import Target
from esscher.errors import ConfigError, NumericsError, ShapeError

__all__ = ["best_of_n", "best_of_n_kl", "best_of_n_kl_bound", "best_of_n_law"]


def best_of_n(
    target: Target,
    proposal: Law,
    n: int,
    *,
    pool: int,
    rng: torch.Generator,
    context: Context = None,
) -> SampleResult:
    """N times the one of `pool` proposals with the largest evidence log-weight, ties at random.

    This is not the target: it keeps nothing of the weights but their order.

    Args:
        target: its evidence is what is compared.
        proposal: what is drawn from.
        n: samples wanted, at least 1.
        pool: proposals per sample, at least 1.
        rng: source of randomness.
        context: one context for all draws.

    Returns:
        The samples; exactly one proposal in `pool` is accepted.

    Raises:
        ConfigError: if a count is not positive, or a list of contexts is given.
    """
    check_counts(context, n=n, pool=pool)
    x, log_q = proposal.sample(n * pool, context=context, rng=rng)
    weight = target.log_weight(x, context).cpu().view(n, pool)
    luck = torch.rand(n, pool, dtype=torch.float64, generator=rng)
    tied = torch.where(weight == weight.amax(1, keepdim=True), luck, -1.0)
    rows = torch.arange(n) * pool + tied.argmax(1)
    kept = take(x, rows)
    return SampleResult(
        x=kept,
        log_target=target.log_density(kept, context),
        log_proposal=log_q[rows],
        acceptance=Estimate(1 / pool, 0.0, n * pool),
        n_proposed=n * pool,
    )


def best_of_n_law(law: Table, score: Tensor, n: int) -> Table:
    """The exact law of the best of n draws, ties at random.

    With F the distribution function of the score under p0, it is
    p0(x) (F(s)ⁿ - F(s⁻)ⁿ) / p0(score = s).

    Args:
        law: p0.
        score: [N] of its outcomes, -inf allowed.
        n: at least 1.

    Raises:
        ShapeError: if there is not one score per outcome.
        NumericsError: if a score is NaN.
        ConfigError: if n is below 1.

    Reference: Beirami et al. (2024), "Theoretical guarantees on the best-of-n alignment policy".
    """
    if score.shape != (len(law),):
        raise ShapeError(f"expected {len(law)} scores, got shape {tuple(score.shape)}")
    if bool(score.isnan().any()):
        raise NumericsError(f"score {int(score.isnan().nonzero()[0])} is NaN")
    if n < 1:
        raise ConfigError(f"best-of-n needs n >= 1, got {n}")
    levels, level = torch.unique(score, return_inverse=True)
    mass = torch.zeros(len(levels), dtype=torch.float64).index_add(0, level, law.probs)
    above = mass.flip(0).cumsum(0).flip(0) - mass
    reached = n * torch.log1p(-above.clamp(max=1.0))
    below = torch.cat([torch.tensor([-math.inf], dtype=torch.float64), reached[:-1]])
    # F(s)ⁿ - F(s⁻)ⁿ without cancellation where both are close to 1.
    log_gain = reached + torch.log(-torch.expm1(below - reached))
    log_gain = torch.where(mass > 0, log_gain - mass.log(), -torch.inf)
    return Table(law.log_probs + log_gain[level], law.outcomes)


def best_of_n_kl_bound(n: int) -> float:
    """Log n - (n-1)/n, an upper bound of KL(best-of-n ‖ p0) in nats, met without ties.

    Reference: Beirami et al. (2024), theorem 1; it is often quoted as an equality.
    """
    if n < 1:
        raise ConfigError(f"best-of-n needs n >= 1, got {n}")
    return math.log(n) - (n - 1) / n


def best_of_n_kl(score: Tensor, n: int, *, rng: torch.Generator, n_boot: int = 200) -> Estimate:
    """KL(best-of-n ‖ p0) from the scores of independent draws of p0, with ties as they are.

    The exact value for the empirical law of the scores, with a bootstrap standard error; it needs
    many more draws than n, and is biased by about n over their number.

    Args:
        score: [N] scores of draws from p0, -inf allowed.
        n: at least 1.
        rng: of the bootstrap.
        n_boot: its resamples.

    Raises:
        ConfigError: if n is below 1.
        NumericsError: if a score is NaN.
    """

    def value(scores: Tensor) -> float:
        law = Table(torch.zeros(len(scores), dtype=torch.float64))
        return best_of_n_law(law, scores, n).kl(law)

    return bootstrap(score, statistic=value, rng=rng, n_boot=n_boot, unit="nats")
