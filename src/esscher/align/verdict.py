"""One word for how an approximation fares, and the numbers that say so."""

from __future__ import annotations

from typing import Literal, NamedTuple

from esscher.core.estimate import Estimate

__all__ = ["Evidence", "Verdict", "judge"]

Word = Literal[
    "collapsed", "support lost", "weights degenerate", "under-optimised", "close to target"
]

CLOSE = 0.1
"""KL(p*‖π) in nats, or total variation, below which a model counts as close."""
ENTROPY_LEFT = 0.6
"""Share of the target's entropy below which a model that is also far away counts as collapsed."""
ESS_LEFT = 0.05
"""Effective share of the model's draws below which it has lost part of the target's support."""
HEAVY_TAIL = 0.7
"""Pareto-k above which importance weights have no reliable mean (Vehtari et al. 2024)."""


class Verdict(NamedTuple):
    """The word and a sentence with its numbers."""

    word: Word
    reason: str


class Evidence(NamedTuple):
    """What the verdict is based on; all against the target, none against the prior alone.

    Attributes:
        kl_target_model: KL(p*‖π), nats.
        kl_target_prior: KL(p*‖p0), what doing nothing costs, nats.
        tvd: total variation between model and target.
        entropy: of the model, nats.
        entropy_target: of the target, nats.
        ess: effective share of the model's draws as a sample of the target.
        pareto_k: tail index of those weights; None for too few draws.
        log_z: normaliser seen from the prior, nats.
        log_z_model: the same seen from the model's own draws, nats; None if no draw counts.
    """

    kl_target_model: Estimate
    kl_target_prior: Estimate
    tvd: Estimate
    entropy: Estimate
    entropy_target: Estimate
    ess: float
    pareto_k: float | None
    log_z: Estimate
    log_z_model: Estimate | None


def judge(e: Evidence) -> Verdict:
    """Apply the rules in order: collapse, closeness, lost support, weights, and what is left.

    A verdict never rests on the model's own draws alone: a collapsed model looks good on those.
    """
    far = e.kl_target_model.mean > e.kl_target_prior.mean
    kl = f"KL(p*‖π) {e.kl_target_model.mean:.2f} nats (doing nothing: {e.kl_target_prior.mean:.2f})"
    if far and e.entropy.mean < ENTROPY_LEFT * e.entropy_target.mean:
        return Verdict(
            "collapsed",
            f"entropy {e.entropy.mean:.1f} nats, the target's {e.entropy_target.mean:.1f}; {kl}",
        )
    if e.kl_target_model.mean < CLOSE or e.tvd.mean < CLOSE:
        return Verdict("close to target", f"{kl}, total variation {e.tvd.mean:.3f}")
    lost = _lost(e)
    if lost is not None:
        return Verdict("support lost", f"{lost}; {kl}")
    if e.pareto_k is not None and e.pareto_k > HEAVY_TAIL and far:
        return Verdict("weights degenerate", f"Pareto-k {e.pareto_k:.2f} > {HEAVY_TAIL}; {kl}")
    return Verdict("under-optimised", f"{kl}, effective sample {100 * e.ess:.0f} %")


def _lost(e: Evidence) -> str | None:
    """Why the model misses part of the target, or None."""
    if e.log_z_model is None:
        return "no draw of the model satisfies the evidence"
    if e.ess < ESS_LEFT:
        return f"only {100 * e.ess:.1f} % of the model's draws count"
    gap = e.log_z.mean - e.log_z_model.mean
    noise = (e.log_z.se**2 + e.log_z_model.se**2) ** 0.5
    if gap > max(0.25, 3 * noise):
        return f"its draws see a log Z {gap:.2f} nats too low"
    return None
