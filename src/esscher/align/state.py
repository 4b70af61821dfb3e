"""What a fit carries from step to step, and what a step saw."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import torch

from esscher.align.best import Best
from esscher.align.credit import Credit
from esscher.align.critic import Critic
from esscher.align.normaliser import LearntLogZ, LogZ
from esscher.align.replay import Replay
from esscher.core.estimate import Estimate
from esscher.kit.lm.language_model import LanguageModel
from esscher.kit.shards import gathered, like_parts, moments_in_parts

__all__ = ["Info", "State"]


@dataclass
class State:
    """All that the next step needs; random numbers are named by the step, so none are stored.

    Attributes:
        policy: the model being trained, changed in place.
        average: moving average of its weights, the result; the policy itself without averaging.
        optimiser: Adam over the policy's parameters.
        proposal: the law that draws batches where it is neither prior nor policy.
        power: of the evidence, relative to the target's own; other than 1 where it is steered.
        log_z: running estimate from every draw so far.
        context_log_z: the same for every prompt, where there are prompts.
        learnt_log_z: the normaliser as a parameter, for objectives that train it, by prompt; under
            the empty name where there are none.
        drift: sums (n, Σd, Σd²) of d = w̃ (log π - log q) since the proposal's last check.
        best: the result if training has to be stopped.
        credit: what learns to credit tokens; None where whole sequences are credited.
        replay: draws of the last steps, for the proposal of that name.
        critic: what learns the worth of prefixes, for objectives that have one.
        blank: the policy without its weights, for copies of it where these are shared out.
        done: steps taken.
        stopped: why training ended before its last step.
        alarm: the first disagreement of training draws and prior draws about log Z.
    """

    policy: LanguageModel
    average: LanguageModel
    optimiser: torch.optim.Optimizer
    proposal: LanguageModel | None = None
    power: float = 1.0
    log_z: LogZ = field(default_factory=LogZ)
    context_log_z: dict[str, LogZ] = field(default_factory=dict)
    learnt_log_z: dict[str, LearntLogZ] = field(default_factory=dict)
    drift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    best: Best = field(default_factory=Best)
    credit: Credit | None = None
    replay: Replay = field(default_factory=Replay)
    critic: Critic | None = None
    blank: LanguageModel | None = None
    done: int = 0
    stopped: str | None = None
    alarm: str | None = None

    def state_dict(self) -> dict[str, Any]:
        """Everything as nested tensors and numbers.

        Where weights are shared out they are fetched, for which all processes have to call this.
        """
        own = {
            "policy": self.policy.module().state_dict(),
            "average": self.average.module().state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "proposal": None if self.proposal is None else self.proposal.module().state_dict(),
            "power": self.power,
            "log_z": list(self.log_z),
            "context_log_z": {text: list(z) for text, z in self.context_log_z.items()},
            "learnt_log_z": {text: list(z) for text, z in self.learnt_log_z.items()},
            "drift": list(self.drift),
            "best": self.best.state_dict(),
            "credit": None if self.credit is None else self.credit.state_dict(),
            "replay": self.replay.state_dict(),
            "critic": None if self.critic is None else self.critic.state_dict(),
            "done": self.done,
            "stopped": self.stopped,
            "alarm": self.alarm,
        }
        return cast("dict[str, Any]", gathered(own))

    def copy_of_policy(self) -> LanguageModel:
        """An independent copy, whole on every process also where the policy is shared out."""
        if self.blank is None:
            return self.policy.clone()
        twin = self.blank.clone()
        weights = gathered(self.policy.module().state_dict())
        twin.module().load_state_dict(weights, assign=True)
        return twin

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what `state_dict` gave, with whole weights also where they are shared out."""
        policy, average = self.policy.module(), self.average.module()
        policy.load_state_dict(like_parts(saved["policy"], policy))
        average.load_state_dict(like_parts(saved["average"], average))
        self.optimiser.load_state_dict(moments_in_parts(saved["optimiser"], self.optimiser))
        self.proposal = None
        if saved["proposal"] is not None:
            self.proposal = self.copy_of_policy()
            self.proposal.module().load_state_dict(saved["proposal"])
        self.power = float(saved["power"])
        self.log_z = LogZ(*saved["log_z"])
        self.context_log_z = {text: LogZ(*z) for text, z in saved["context_log_z"].items()}
        self.learnt_log_z = {text: LearntLogZ(*z) for text, z in saved["learnt_log_z"].items()}
        self.drift = cast("tuple[float, float, float]", tuple(saved["drift"]))
        self.best = Best.of(saved["best"])
        if self.best.weights is not None:
            self.best.weights = like_parts(self.best.weights, average)
        if self.credit is not None:
            self.credit.load_state_dict(saved["credit"])
        self.replay = Replay.of(saved["replay"])
        if self.critic is not None:
            self.critic.load_state_dict(saved["critic"])
        self.done = int(saved["done"])
        self.stopped, self.alarm = saved["stopped"], saved["alarm"]


class Info(NamedTuple):
    """What a step saw, on its own draws.

    Attributes:
        loss: value of the objective's loss; its gradient, not its value, is the estimate.
        satisfied: share of draws the evidence does not rule out.
        log_weight: mean evidence log-weight of those draws, nats.
        ess: effective sample size of the weights P/q, as a share of the batch.
        kl_prior: KL(π‖p0), importance-weighted where q is not π, nats.
        grad_norm: before clipping.
        lr: learning rate used.
        unseen_contexts: prompts of the batch for which no draw so far satisfied the evidence, so
            that their normaliser is not known; 0 without prompts.
        moved: whether the adaptive proposal was set to the current policy after this step.
        engine_gap: largest difference of an engine's log-probability of a draw to the law's own,
            nats; None where this library draws.
    """

    loss: float
    satisfied: float
    log_weight: float | None
    ess: float
    kl_prior: Estimate
    grad_norm: float
    lr: float
    unseen_contexts: int
    moved: bool
    engine_gap: float | None
