"""A data set made ready for learning: standardised, in one block, with its behaviour density."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from esscher.kit.rl.normalise import ActionMap, Standardiser
from esscher.kit.rl.replay import Replay
from esscher.kit.rl.transitions import Transitions
from esscher.kit.runs.seeds import Streams
from esscher.offline.config import OfflineConfig
from esscher.offline.data import MixedDataset
from esscher.offline.densities.base import BehaviourDensity
from esscher.offline.densities.fit import DensityReport, fit_density

__all__ = ["Prepared", "prepare"]

PART = 8192


@dataclass(frozen=True)
class Prepared:
    """What a learner learns from; everything in standardised units.

    Attributes:
        replay: all transitions.
        standardiser: of observations, by this data.
        action_map: of the action box.
        density: π_b, None where none is needed.
        report: how its fit went.
        entropy: [N] H(s) of the density in every row's state, where weights need it.
        next_entropy: [N] the same in the successors, where the critic's penalty needs it.
        next_action: [N, m] what the data did in the successor, unit actions, where a penalty of
            squared distances on the critic needs it.
        next_known: [N] whether it did anything there.
    """

    replay: Replay
    standardiser: Standardiser
    action_map: ActionMap
    density: BehaviourDensity | None = None
    report: DensityReport | None = None
    entropy: Tensor | None = None
    next_entropy: Tensor | None = None
    next_action: Tensor | None = None
    next_known: Tensor | None = None


def prepare(
    config: OfflineConfig,
    dataset: MixedDataset,
    seed: int,
    *,
    density: BehaviourDensity | None = None,
    on_density: Callable[[int, float], None] | None = None,
) -> Prepared:
    """Standardise, map actions, fit the density and remember its entropy in every state.

    A data set smaller than a batch is sampled with replacement, which is warned about.

    Args:
        config: what the learner needs.
        dataset: the transitions.
        seed: of the fit.
        density: taken as it is instead of a fitted one, such as an oracle.
        on_density: called with step and held-out likelihood while the density is fitted.
    """
    streams = Streams(seed)
    if config.top_share < 1:
        dataset = dataset.top(config.top_share)
    rows = dataset.transitions
    if len(rows) < config.td3.batch:
        text = (
            f"the data set has {len(rows)} transitions, a batch {config.td3.batch}: rows repeat "
            "within a batch"
        )
        warnings.warn(text, UserWarning, stacklevel=2)
    standardiser = Standardiser.fit(rows.obs)
    action_map = ActionMap(dataset.low, dataset.high)
    replay = _filled(rows, standardiser, action_map)
    d, m = replay.obs_dim, replay.action_dim
    obs, following = replay.rows[:, :d], replay.rows[:, d + m : 2 * d + m]
    report = None
    if config.needs_density and density is None:
        action = replay.rows[:, d : d + m]
        density, report = fit_density(obs, action, config.density, streams, on_density)
    entropy = next_entropy = None
    if density is not None and config.weight == "entropy" and config.algorithm == "td3":
        draws = config.entropy_draws
        entropy = density.entropy(obs, draws, streams.torch("entropy"))
        if config.critic_penalty > 0:
            next_entropy = density.entropy(following, draws, streams.torch("entropy", "next"))
    later = known = None
    if config.critic_penalty > 0 and config.regulariser == "mse":
        next_action, next_known = (torch.from_numpy(column) for column in rows.next_action())
        later, known = action_map.to_unit(next_action).clamp(-1, 1), next_known
    return Prepared(
        replay, standardiser, action_map, density, report, entropy, next_entropy, later, known
    )


def _filled(rows: Transitions, standardiser: Standardiser, action_map: ActionMap) -> Replay:
    """A replay of all rows, filled in parts: the rows and it are all that is held at once."""
    replay = Replay(len(rows), rows.obs.shape[1], rows.action.shape[1])
    for start in range(0, len(rows), PART):
        part = slice(start, start + PART)
        columns = (rows.obs, rows.action, rows.reward, rows.next_obs, rows.terminated)
        obs, action, reward, following, terminated = (torch.from_numpy(c[part]) for c in columns)
        unit = action_map.to_unit(action).clamp(-1, 1)
        replay.add(standardiser(obs), unit, reward, standardiser(following), terminated)
    return replay
