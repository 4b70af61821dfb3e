"""Over-optimisation: what a second judge thinks of draws that the evidence likes ever more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from esscher.core.batch import BatchFunction
from esscher.core.batch import evaluate as values_of
from esscher.core.best_of_n import best_of_n_kl, best_of_n_law
from esscher.core.estimate import bootstrap
from esscher.core.law import Table
from esscher.core.target import Target
from esscher.errors import ConfigError
from esscher.kit.lm.language_model import LanguageModel
from esscher.kit.runs.seeds import Streams

__all__ = ["best_of_n_curve", "gold_values"]


def gold_values(gold: BatchFunction, items: Sequence[Any], context: Sequence[str] | None) -> Tensor:
    """What the gold judge gives the items, [B]; the target knows nothing of it.

    Raises:
        DataError: if it raises or returns something else than a number per item.
        NumericsError: if a value is NaN or +inf.
    """
    return values_of(gold, items, context, "gold")


def best_of_n_curve(
    target: Target, gold: BatchFunction, n: int = 2000, *, seed: int = 0
) -> list[dict[str, Any]]:
    """Gold judgement of the best of 1, 2, 4, … prior draws by the evidence, against its KL.

    Both are exact for the empirical law of the draws, ties included; the largest pool is a
    twentieth of them, beyond which the draws would say little.

    Args:
        target: its evidence chooses, without prompts.
        gold: judges what was chosen.
        n: draws of the prior, at least 20.
        seed: of the draws.

    Returns:
        Rows {"n", "kl", "gold"}: the pool, KL(best-of-n ‖ p0) in nats and the mean judgement, both
        as {"mean", "se", "n"}.

    Raises:
        ConfigError: if n is below 20, or the prior is no language model.

    Reference: Gao, Schulman, Hilton (2023), "Scaling laws for reward model overoptimization".
    """
    prior = target.prior
    if n < 20 or not isinstance(prior, LanguageModel):
        raise ConfigError(f"the curve needs a language model and n >= 20 of its draws, got n={n}")
    streams = Streams(seed)
    x = prior.sample(n, rng=streams.torch("gold-draws")).x
    score, judged = target.log_weight(x).cpu(), gold_values(gold, prior.items(x), None)
    rows = []
    for pool in (2**k for k in range(n.bit_length()) if 2**k <= n / 20):
        rng = streams.torch(f"gold-{pool}")
        kl = best_of_n_kl(score, pool, rng=rng)
        mean = bootstrap(score, judged, statistic=_mean_of_best(pool), rng=rng, n_boot=200)
        rows.append({"n": pool, "kl": kl.to_json(), "gold": mean.to_json()})
    return rows


def _mean_of_best(pool: int) -> Callable[[Tensor, Tensor], float]:
    def value(score: Tensor, judged: Tensor) -> float:
        law = Table(torch.zeros(len(score), dtype=torch.float64))
        probs = best_of_n_law(law, score, pool).probs
        return float(torch.where(probs > 0, probs * judged, 0.0).sum())

    return value
