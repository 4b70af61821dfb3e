"""Training objectives: pure functions of a batch of log-probabilities, and what each minimises."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from torch import Tensor

from esscher.align.objectives.batch import Batch
from esscher.align.objectives.best_of_n import best_of_n_distillation, raft_iterated
from esscher.align.objectives.biased_kl import (
    k1_loss_biased,
    k2_reward_biased,
    k3_loss_biased,
    k3_reward_biased,
)
from esscher.align.objectives.biased_token_kl import (
    k3_ratio_token_loss_biased,
    k3_token_loss_biased,
)
from esscher.align.objectives.dpo import dpo
from esscher.align.objectives.f_divergence import f_divergence
from esscher.align.objectives.forward_kl import forward_kl
from esscher.align.objectives.grpo import dr_grpo, grpo
from esscher.align.objectives.ppo import ppo
from esscher.align.objectives.reinforce import reinforce
from esscher.align.objectives.reverse_kl import reverse_kl
from esscher.align.objectives.rl import rl
from esscher.align.objectives.rwr import rwr, rwr_iterated
from esscher.align.objectives.sft_posterior import sft_posterior
from esscher.align.objectives.subtb import subtb
from esscher.align.objectives.trajectory_balance import trajectory_balance
from esscher.align.objectives.vargrad import vargrad
from esscher.core.divergence import Divergence, get_divergence
from esscher.errors import ConfigError

__all__ = ["OBJECTIVES", "Batch", "Objective", "Proposal", "get_objective", "is_objective"]

Proposal = Literal["on_policy", "prior", "adaptive", "mixture", "replay"]


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
        prior_only: whether it is about the prior's draws and no others.
        any_law: whether p* is its optimum whichever law drew, without weights, so that draws of
            past steps can be used again.
        learns_log_z: whether the normaliser is a parameter that it trains.
        per_token: whether its loss is of tokens, which needs models that are open token by token.
        critic: whether a value of prefixes is trained beside the policy.
    """

    name: str
    loss: Callable[[Any], Tensor]
    minimises: str | None
    proposal: Proposal
    needs_floor: bool = False
    on_policy_only: bool = False
    prior_only: bool = False
    noisy: bool = False
    any_law: bool = False
    learns_log_z: bool = False
    per_token: bool = False
    critic: bool = False


def _of(divergence: Divergence) -> Objective:
    """The objective of an f-divergence."""
    return Objective(
        divergence.name,
        f_divergence(divergence),
        divergence.title,
        "adaptive",
        needs_floor=divergence.needs_floor,
        # A sign does not fade as the optimum comes near.
        noisy=divergence.name == "tv",
    )


def _biased(loss: Callable[[Any], Tensor], **traits: bool) -> Objective:
    """A placement of the KL that misses the target, under the name of its function."""
    return Objective(loss.__name__, loss, None, needs_floor=True, **(ON_POLICY | traits))


ON_POLICY: dict[str, Any] = {"proposal": "on_policy", "on_policy_only": True}

OBJECTIVES: Mapping[str, Objective] = MappingProxyType(
    {
        o.name: o
        for o in (
            Objective("forward_kl", forward_kl, "KL(p*‖π)", "adaptive"),
            _of(get_divergence("js")),
            Objective("reverse_kl", reverse_kl, "KL(π‖p*)", needs_floor=True, **ON_POLICY),
            Objective("rl", rl, None, needs_floor=True, **ON_POLICY),
            Objective("sft_posterior", sft_posterior, "KL(p*‖π)", "prior", noisy=True),
            Objective(
                "vargrad", vargrad, "Var_q[log π/P]", "adaptive", needs_floor=True, any_law=True
            ),
            *(_of(get_divergence(name)) for name in ("tv", "hellinger", "chi2_forward")),
            _of(get_divergence("chi2_reverse")),
            _of(get_divergence("alpha:0.5")),
            Objective(
                "reinforce", reinforce, "KL(π‖p*)", needs_floor=True, noisy=True, **ON_POLICY
            ),
            Objective(
                "trajectory_balance",
                trajectory_balance,
                "E_q[(log Z_θ π/P)²]",
                "adaptive",
                needs_floor=True,
                any_law=True,
                learns_log_z=True,
            ),
            Objective(
                "subtb",
                subtb,
                "E_q[(Δ log π/F)²]",
                "adaptive",
                needs_floor=True,
                any_law=True,
                per_token=True,
            ),
            Objective(
                "ppo",
                ppo,
                "KL(π‖p*)",
                needs_floor=True,
                per_token=True,
                critic=True,
                **ON_POLICY,
            ),
            Objective("dpo", dpo, "Bradley-Terry loss of log π/p0", "prior", needs_floor=True),
            Objective("rwr", rwr, "KL(p*‖π)", "prior", noisy=True),
            Objective("grpo", grpo, None, needs_floor=True, per_token=True, **ON_POLICY),
            Objective("dr_grpo", dr_grpo, None, needs_floor=True, per_token=True, **ON_POLICY),
            Objective("rwr_iterated", rwr_iterated, None, noisy=True, **ON_POLICY),
            Objective("raft_iterated", raft_iterated, None, noisy=True, **ON_POLICY),
            Objective(
                "best_of_n_distillation",
                best_of_n_distillation,
                None,
                "prior",
                prior_only=True,
                noisy=True,
            ),
            _biased(k1_loss_biased, noisy=True),
            *map(_biased, (k2_reward_biased, k3_reward_biased, k3_loss_biased)),
            _biased(k3_token_loss_biased, per_token=True),
            _biased(k3_ratio_token_loss_biased, per_token=True),
        )
    }
)
"""The objectives by name; `get_objective` also knows the rest of the α family."""

SYNONYMS = {
    "dpg": "forward_kl",
    "gdc": "forward_kl",
    "kl": "reverse_kl",
    "rloo": "reverse_kl",
    "k1_reward": "reverse_kl",
    "k2_loss": "reverse_kl",
    "sft": "sft_posterior",
    "raft": "raft_iterated",
    "bond": "best_of_n_distillation",
    "tb": "trajectory_balance",
}
"""What else objectives are called, for messages."""


def get_objective(name: str) -> Objective:
    """The objective called name: a key of `OBJECTIVES`, or "alpha:0.3".

    Raises:
        ConfigError: naming the nearest known name.
    """
    if name in OBJECTIVES:
        return OBJECTIVES[name]
    if name.startswith("alpha:"):
        return _of(get_divergence(name))
    near = difflib.get_close_matches(name, OBJECTIVES, 1)
    meant = SYNONYMS.get(name.lower(), near[0] if near else None)
    hint = f"; did you mean {meant!r}?" if meant else ""
    raise ConfigError(
        f"unknown objective {name!r}{hint} Known: {', '.join(OBJECTIVES)}, alpha:<number>"
    )


def is_objective(name: str) -> bool:
    """Whether `get_objective` knows the name."""
    return name in OBJECTIVES or name.startswith("alpha:")
