"""What a fit did beside what the data hold, on any data set."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from esscher.core.estimate import Estimate
from esscher.kit.rl.evaluate import seed_estimate
from esscher.kit.rl.rollout import BatchEnv, rollout
from esscher.kit.runs.seeds import Streams
from esscher.offline.learners import TD3Offline
from esscher.offline.prepare import Prepared
from esscher.offline.regularise import entropy_weight
from esscher.offline.training import FitResult

__all__ = ["Neighbourhood", "StartValue", "chosen_states", "start_value", "state_weights"]

QUANTILES = (0.05, 0.5, 0.95)
NEIGHBOURS = 200
DRAWS = 2000
_ROWS = 20_000


class StartValue(NamedTuple):
    """A critic's promise at the first states of episodes, and what came.

    Attributes:
        promised: mean of Q(s_0, π(s_0)).
        kept: mean discounted return from there; nothing is counted after a time limit.
    """

    promised: Estimate
    kept: Estimate


class Neighbourhood(NamedTuple):
    """The behaviour around one state of the data.

    Attributes:
        label: how much room the behaviour leaves there.
        obs: [1, d] the state, standardised.
        data: [K, m] what was done in the states nearest to it.
        draws: [M, m] of the behaviour density in it.
        modes: [J, m] of the density; draws, where it does not know its modes.
    """

    label: str
    obs: Tensor
    data: Tensor
    draws: Tensor
    modes: Tensor


@torch.no_grad()
def start_value(result: FitResult, env: BatchEnv, gamma: float, episodes: int) -> StartValue | None:
    """Over-estimation of a critic against Monte Carlo; None for learners without a critic."""
    rows = rollout(env, result.policy, episodes)
    runs = list(rows.episodes())
    kept = [float((e.reward * gamma ** np.arange(len(e.reward))).sum()) for e in runs]
    obs = result.data.standardiser(torch.from_numpy(np.stack([e.obs[0] for e in runs])))
    promised = result.learner.q(torch.cat([obs, result.learner.actor(obs)], 1))
    if promised is None:
        return None
    return StartValue(seed_estimate(promised.numpy()), seed_estimate(kept))


def state_weights(result: FitResult) -> NDArray[np.float64] | None:
    """[N] w(s) of every row, mean 1; None where the learner has no weight by entropy."""
    entropy, learner = result.data.entropy, result.learner
    if entropy is None or not isinstance(learner, TD3Offline) or learner.config.weight != "entropy":
        return None
    low, high = learner.config.weight_range
    found: NDArray[np.float64] = (
        entropy_weight(
            entropy,
            result.data.replay.action_dim,
            beta=learner.config.weight_beta,
            low=low,
            high=high,
        )
        .double()
        .numpy()
    )
    return found


@torch.no_grad()
def chosen_states(data: Prepared, seed: int) -> list[Neighbourhood]:
    """States where the behaviour is narrow, middling and wide, by the density's entropy.

    Of at most 20 000 rows.
    """
    density = data.density
    if density is None:
        return []
    streams = Streams(seed)
    pick = torch.from_numpy(streams.numpy("rows").permutation(len(data.replay))[:_ROWS])
    batch, rng = data.replay.at(pick), streams.torch("chosen states")
    entropy = density.entropy(batch.obs, 16, rng)
    order = entropy.argsort()
    found = []
    for quantile in QUANTILES:
        row = int(order[round(quantile * (len(order) - 1))])
        obs = batch.obs[row : row + 1]
        distance = torch.linalg.vector_norm(batch.obs - obs, dim=1)
        near = distance.topk(min(NEIGHBOURS, len(distance)), largest=False).indices
        modes, worth = density.centres(obs, 8, rng)
        found.append(
            Neighbourhood(
                f"entropy {float(entropy[row]):.2f} nats, quantile {quantile:g}",
                obs,
                batch.action[near],
                density.sample(obs, DRAWS, rng)[:, 0],
                modes[0][worth[0]],
            )
        )
    return found
