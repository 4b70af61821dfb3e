"""Short measurements while training runs: where the policy is on its way to the target."""

from __future__ import annotations

from collections.abc import Sequence

from esscher.align.evaluate import evaluate
from esscher.align.fit import Watcher
from esscher.align.reference import (
    ByContext,
    Reference,
    make_reference,
    references_by_context,
)
from esscher.core.batch import BatchFunction
from esscher.core.estimate import Estimate
from esscher.core.target import Target
from esscher.kit.lm.language_model import LanguageModel
from esscher.kit.runs.seeds import Streams

__all__ = ["WATCHED", "make_watcher"]

WATCHED = (
    "satisfied",
    "log_weight",
    "kl_target_model",
    "kl_gained",
    "kl_model_prior",
    "entropy",
    "distinct_2",
    "length",
    "ess",
)
"""Numbers of an `Evaluation` that a watcher reports."""


def make_watcher(
    target: Target,
    *,
    n: int,
    seed: int,
    floor: float,
    prompts: Sequence[str] | None = None,
    gold: BatchFunction | None = None,
) -> Watcher:
    """A watcher that measures n draws of the policy against n draws of the target, always the same.

    Its random numbers are its own, so watching does not change training.

    Args:
        target: prior and evidence, moments fitted.
        n: draws, at least 25.
        seed: of the measurements.
        floor: nats, see `evaluate`.
        prompts: prompts to draw contexts from.
        gold: a second judge, see `evaluate`.
    """
    rng = Streams(seed).torch("watch-target")
    reference: Reference | ByContext
    if prompts is None:
        reference = make_reference(target, n, rng=rng)
    else:
        reference = references_by_context(target, n, prompts, rng=rng)

    def watch(done: int, policy: LanguageModel) -> dict[str, Estimate]:
        evaluation = evaluate(
            policy,
            target,
            n,
            seed=seed + 1 + done,
            floor=floor,
            prompts=prompts,
            reference=reference,
            gold=gold,
        )
        names = WATCHED if gold is None else (*WATCHED, "gold")
        return {f"watch_{name}": getattr(evaluation, name) for name in names}

    return watch
