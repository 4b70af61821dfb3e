"""Training objectives: pure functions of a batch of log-probabilities, and what each minimises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from torch import Tensor

from esscher.align.objectives.batch import Batch
from esscher.align.objectives.forward_kl import forward_kl
from esscher.align.objectives.js import js
from esscher.align.objectives.reverse_kl import reverse_kl
from esscher.align.objectives.rl import rl
from esscher.align.objectives.sft_posterior import sft_posterior
from esscher.align.objectives.vargrad import vargrad

__all__ = ["OBJECTIVES", "Batch", "Objective", "Proposal"]

Proposal = Literal["on_policy", "prior", "adaptive"]


@dataclass(frozen=True)
class Objective:
    """A loss and what it is good for.

    Attributes:
        name: key in `OBJECTIVES`.
        loss: batch -> scalar whose gradient in log_pi is estimated on draws from q.
        minimises: the divergence to the target it minimises; None where it does not approximate it.
        proposal: where its draws come from unless the user says otherwise.
        needs_floor: whether a draw the target rules out has to be floored to a finite log-weight.
        noisy: whether its gradient noise stays at the optimum, so that it takes larger batches.
        on_policy_only: whether draws from another law make it wrong or useless.
    """

    name: str
    loss: Callable[[Batch], Tensor]
    minimises: str | None
    proposal: Proposal
    needs_floor: bool = False
    on_policy_only: bool = False
    noisy: bool = False


OBJECTIVES: Mapping[str, Objective] = MappingProxyType(
    {
        o.name: o
        for o in (
            Objective("forward_kl", forward_kl, "KL(p*‖π)", "adaptive"),
            Objective("js", js, "JS(π, p*)", "adaptive"),
            Objective(
                "reverse_kl",
                reverse_kl,
                "KL(π‖p*)",
                "on_policy",
                needs_floor=True,
                on_policy_only=True,
            ),
            Objective("rl", rl, None, "on_policy", needs_floor=True, on_policy_only=True),
            Objective("sft_posterior", sft_posterior, "KL(p*‖π)", "prior", noisy=True),
            Objective("vargrad", vargrad, "Var_q[log π/P]", "adaptive", needs_floor=True),
        )
    }
)
