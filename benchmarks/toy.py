"""Every objective on a world small enough to sum over: 364 texts, exact distance to the posterior.

Letters are 0, 1, 2. The reward is the number of "0 then 1", half a point for a 2, less a quarter
for the full length of five, the end counted; β = 0.5. The second table gives the fixed points of
ways to use the KL term that are met in practice and miss the posterior, from exact expectations.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import itertools
import time
from collections.abc import Callable, Iterable

import torch
from _harness import Numbers, main, note, one_thread, single
from torch import Tensor

from esscher.align.evaluate import evaluate
from esscher.align.fit import fit
from esscher.align.objectives import OBJECTIVES
from esscher.core import Reward, Target
from esscher.kit.lm.tabular import TabularLM

BETA = 0.5
STEPS, LR = 1500, 0.05


def reward(texts: Iterable[list[int]]) -> list[float]:
    return [_points(text) for text in texts]


def _points(ids: list[int]) -> float:
    pairs = sum(pair == (0, 1) for pair in itertools.pairwise(ids))
    return pairs + 0.5 * (2 in ids) - 0.25 * len(ids) / 5


def objectives(names: Iterable[str] = tuple(OBJECTIVES)) -> Numbers:
    """TVD, KL both ways and seconds of every objective with its default settings.

    A short fit goes first: the seconds that torch takes once to load its optimisers are nobody's.
    """
    prior = TabularLM()
    target = Target(prior, Reward(reward, beta=BETA))
    fit(prior, target, "forward_kl", steps=2)
    numbers: Numbers = {}
    for name in names:
        cpu = time.process_time()
        policy = fit(prior, target, name).policy
        cpu = time.process_time() - cpu
        found = evaluate(policy, target)
        numbers[f"{name}: TVD"] = single(found.tvd.mean)
        numbers[f"{name}: KL(p*|pi)"] = single(found.kl_target_model.mean)
        numbers[f"{name}: KL(pi|p*)"] = single(found.kl_model_target.mean)
        numbers[f"{name}: CPU s"] = single(cpu)
        note(f"  {name:16s} TVD {found.tvd.mean:.2e}  {cpu:.1f} CPU s")
    return numbers


class World:
    """The 364 texts of `TabularLM()`, token by token."""

    def __init__(self) -> None:
        lm = TabularLM()
        self.logits = lm.module().get_parameter("logits").detach()
        outcomes = lm.items(lm.enumerate())
        self.index = torch.zeros(len(outcomes), 5, dtype=torch.int64)
        self.used = torch.zeros(len(outcomes), 5, dtype=torch.bool)
        first = [0, 1, 4, 13, 40]
        for i, tokens in enumerate(outcomes):
            for t, token in enumerate(tokens):
                prefix = sum(letter * 3 ** (t - 1 - s) for s, letter in enumerate(tokens[:t]))
                self.index[i, t] = (first[t] + prefix) * 4 + token
                self.used[i, t] = True
        self.reward = torch.tensor(reward(outcomes), dtype=torch.float64)
        self.prior = self.token_log_probs(self.logits)
        weighted = self.prior.sum(1) + self.reward / BETA
        self.posterior = weighted - weighted.logsumexp(0)

    def token_log_probs(self, logits: Tensor) -> Tensor:
        """[121, 4] logits -> [364, 5], zero beyond a text's end."""
        return torch.log_softmax(logits, 1).flatten()[self.index] * self.used


Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(token log-probabilities [N, 5] of model and prior, reward [N]) -> loss of every text [N]."""


def score_loss(log_pi: Tensor, advantage: Tensor) -> Tensor:
    return -advantage.detach() * log_pi


def k3(u: Tensor) -> Tensor:
    return torch.expm1(u) - u


def k1_loss(pi: Tensor, p0: Tensor, r: Tensor) -> Tensor:
    return score_loss(pi.sum(1), r) + BETA * (pi - p0).sum(1)


def k1_reward(pi: Tensor, p0: Tensor, r: Tensor) -> Tensor:
    return score_loss(pi.sum(1), r - BETA * (pi - p0).sum(1))


def k2_reward(pi: Tensor, p0: Tensor, r: Tensor) -> Tensor:
    return score_loss(pi.sum(1), r - BETA * (pi - p0).sum(1) ** 2 / 2)


def k3_reward(pi: Tensor, p0: Tensor, r: Tensor) -> Tensor:
    return score_loss(pi.sum(1), r - BETA * k3((p0 - pi).sum(1)))


def k3_loss(pi: Tensor, p0: Tensor, r: Tensor) -> Tensor:
    return score_loss(pi.sum(1), r) + BETA * k3((p0 - pi).sum(1))


def k3_token(pi: Tensor, p0: Tensor, r: Tensor) -> Tensor:
    return score_loss(pi.sum(1), r) + BETA * k3(p0 - pi).sum(1)


def k3_ratio_token(pi: Tensor, p0: Tensor, r: Tensor) -> Tensor:
    ratio = (pi - pi.detach()).exp()
    return score_loss(pi.sum(1), r) + BETA * (ratio * k3(p0 - pi)).sum(1)


def k3_ratio_token_std(pi: Tensor, p0: Tensor, r: Tensor) -> Tensor:
    mass = pi.detach().sum(1).exp()
    centred = r - (mass * r).sum()
    return k3_ratio_token(pi, p0, centred / (mass * centred**2).sum().sqrt())


NEGATIVE: dict[str, tuple[Loss, tuple[float, float, float]]] = {
    "k1 in reward (correct)": (k1_reward, (0.0, 0.0, 0.4984)),
    "k1 as loss": (k1_loss, (4.55, 0.986, 2.249)),
    "k2 in reward": (k2_reward, (0.638, 0.445, 0.699)),
    "k3 in reward": (k3_reward, (1.54, 0.784, 0.894)),
    "k3 as loss, sequence": (k3_loss, (2.75, 0.743, 1.750)),
    "k3 as loss, per token": (k3_token, (0.157, 0.212, 0.748)),
    "k3 × ratio per token": (k3_ratio_token, (0.065, 0.154, 0.661)),
    "k3 × ratio per token, std": (k3_ratio_token_std, (1.05, 0.557, 1.414)),
}
"""Loss, and KL(π‖p*), TVD and E[r] found in an independent study of the same world."""


def fixed_point(world: World, loss: Loss, steps: int = STEPS) -> tuple[float, float, float]:
    """Train on exact expectations; KL(π‖p*), TVD and E[r] at the end."""
    logits = world.logits.clone().requires_grad_()
    optimiser = torch.optim.Adam([logits], lr=LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        optimiser.zero_grad()
        pi = world.token_log_probs(logits)
        mass = pi.detach().sum(1).exp()
        advantage = world.reward - (mass * world.reward).sum()
        (mass * loss(pi, world.prior, advantage)).sum().backward()
        optimiser.step()
        schedule.step()
    log_pi = world.token_log_probs(logits.detach()).sum(1)
    mass = log_pi.exp()
    kl = float((mass * (log_pi - world.posterior)).sum())
    tvd = float(0.5 * (mass - world.posterior.exp()).abs().sum())
    return kl, tvd, float((mass * world.reward).sum())


def negative_table() -> Numbers:
    world = World()
    numbers: Numbers = {}
    for name, (loss, study) in NEGATIVE.items():
        kl, tvd, mean = fixed_point(world, loss)
        numbers[f"{name}: KL(pi|p*)"] = single(kl)
        numbers[f"{name}: TVD"] = single(tvd)
        numbers[f"{name}: E[r]"] = single(mean)
        seen = f"KL {kl:8.3g}  TVD {tvd:8.3g}  E[r] {mean:6.3f}"
        note(f"  {name:26s} {seen}   study: KL {study[0]:g}, TVD {study[1]:g}, E[r] {study[2]:g}")
    return numbers


def measure(quick: bool) -> Numbers:
    """Quick: the objectives that take seconds, and no negative table."""
    one_thread()
    if quick:
        return objectives(("forward_kl", "reverse_kl", "vargrad"))
    return objectives() | negative_table()


def run(quick: bool = False, output: object = None) -> dict[str, float]:
    return {key: spread.median for key, spread in measure(quick).items()}


if __name__ == "__main__":
    sys.exit(main("toy", __doc__, measure))
