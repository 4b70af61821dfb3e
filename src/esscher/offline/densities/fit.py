"""Fitting a behaviour density by maximum likelihood, and how well it is calibrated."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from esscher.errors import NumericsError
from esscher.kit.runs.seeds import Streams
from esscher.offline.config import DensityConfig
from esscher.offline.densities.base import CHUNK, BehaviourDensity
from esscher.offline.densities.flow import Flow
from esscher.offline.densities.latent import CVAE
from esscher.offline.densities.mixture import MDN, k_means

__all__ = ["DensityReport", "calibration_levels", "fit_density"]

LOOK = 250
"""Steps between looks at the held-out likelihood."""
PATIENCE = 8
"""Looks without a better one after which fitting stops."""
START_ROWS = 2000


class DensityReport(NamedTuple):
    """How a fit went.

    Attributes:
        train_nll: mean of -log π_b(a|s) on the data, nats.
        held_out_nll: the same on held-out transitions.
        steps: gradient steps until the weights that were kept.
        stopped: whether it ended before its last step.
    """

    train_nll: float
    held_out_nll: float
    steps: int
    stopped: bool


def fit_density(
    obs: Tensor,
    action: Tensor,
    config: DensityConfig,
    streams: Streams,
    on_step: Callable[[int, float], None] | None = None,
) -> tuple[BehaviourDensity, DensityReport]:
    """Fit π_b(a|s) to standardised observations [N, d] and unit actions [N, m], then freeze it.

    Weights of the best held-out likelihood are kept. Constant actions, and fewer distinct ones than
    components, are warned about as a UserWarning.

    Raises:
        NumericsError: if the likelihood is not finite.
        ConfigError: if the kind does not fit the action's dimensions.
    """
    rng = streams.torch("density", "steps")
    density = _made(obs, action, config, streams.torch("density", "weights"))
    order = torch.randperm(len(obs), generator=rng)
    n_held = max(1, round(config.held_out * len(obs))) if len(obs) > 1 else 0
    held, rows = order[:n_held], order[n_held:]
    held = held if n_held else rows
    optimiser = torch.optim.Adam(density.parameters(), lr=config.lr, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda k: 0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, k / config.steps)))
    )
    best, kept, kept_at, done = math.inf, copy.deepcopy(density.state_dict()), 0, 0
    while done < config.steps and (done - kept_at) < PATIENCE * LOOK:
        pick = rows[torch.randint(len(rows), (config.batch,), generator=rng)]
        loss = density.loss(obs[pick], action[pick], rng)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
        done += 1
        if done % LOOK == 0 or done == config.steps:
            nll = _nll(density, obs[held], action[held])
            if nll < best:
                best, kept, kept_at = nll, copy.deepcopy(density.state_dict()), done
            if on_step is not None:
                on_step(done, nll)
    density.load_state_dict(kept)
    density.requires_grad_(False)
    train = _nll(density, obs[rows], action[rows])
    return density, DensityReport(train, best, kept_at, done < config.steps)


def calibration_levels(
    density: BehaviourDensity, obs: Tensor, action: Tensor, rng: torch.Generator, n: int = 64
) -> NDArray[np.float64]:
    """[N] of each action the share of n draws in its state that are less likely than it.

    Uniform in [0, 1] where the density is right, whatever its shape or the action's dimension.
    """
    with torch.no_grad():
        own = density.log_prob(obs, action)
        draws = density.sample(obs, n, rng)
        spread = obs.expand(n, *obs.shape).reshape(-1, obs.shape[1])
        other = density.log_prob(spread, draws.reshape(-1, draws.shape[-1])).view(n, -1)
    return (other < own).double().mean(0).numpy()


def _made(
    obs: Tensor, action: Tensor, config: DensityConfig, rng: torch.Generator
) -> BehaviourDensity:
    d, m = obs.shape[1], action.shape[1]
    if config.kind == "cvae":
        return CVAE(d, m, width=config.width, std_floor=config.std_floor, rng=rng)
    if config.kind == "flow":
        return Flow(d, m, width=config.width, std_floor=config.std_floor, rng=rng)
    k = config.components if config.kind == "mdn" else 1
    pick = torch.randint(len(action), (min(START_ROWS, len(action)),), generator=rng)
    sample = action[pick]
    distinct = len(torch.unique(sample, dim=0))
    if distinct == 1:
        warnings.warn(
            "all actions are equal: the density falls back to its floor of "
            f"{config.std_floor:g} around them",
            UserWarning,
            stacklevel=3,
        )
    if distinct < k:
        if distinct > 1:
            text = f"the data hold {distinct} distinct actions; so many components are fitted"
            warnings.warn(text, UserWarning, stacklevel=3)
        k = distinct
    start = k_means(sample, k, rng)
    if m == 1:
        start = torch.quantile(sample, (torch.arange(k) + 0.5) / k, dim=0)
    return MDN(
        d, m, components=k, width=config.width, std_floor=config.std_floor, start=start, rng=rng
    )


@torch.no_grad()
def _nll(density: BehaviourDensity, obs: Tensor, action: Tensor) -> float:
    parts = zip(torch.split(obs, CHUNK), torch.split(action, CHUNK), strict=True)
    value = -float(torch.cat([density.log_prob(s, a) for s, a in parts]).mean())
    if not math.isfinite(value):
        raise NumericsError(
            f"the behaviour density's likelihood is {value}; lower DensityConfig.lr or raise "
            "std_floor"
        )
    return value
