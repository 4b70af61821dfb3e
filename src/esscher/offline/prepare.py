"""A data set made ready for learning: standardised, in one block, with its behaviour density."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from esscher.kit.rl.normalise import ActionMap, Standardiser
from esscher.kit.rl.replay import Replay
from esscher.kit.runs.seeds import Streams
from esscher.offline.config import OfflineConfig
from esscher.offline.data import MixedDataset
from esscher.offline.densities.base import BehaviourDensity
from esscher.offline.densities.fit import DensityReport, fit_density

__all__ = ["Prepared", "prepare"]


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
        next_action: [N, m] what the data did in the successor, unit actions.
        next_known: [N] whether it did anything there.
    """

    replay: Replay
    standardiser: Standardiser
    action_map: ActionMap
    next_action: Tensor
    next_known: Tensor
    density: BehaviourDensity | None = None
    report: DensityReport | None = None
    entropy: Tensor | None = None
    next_entropy: Tensor | None = None


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
    obs, following = (standardiser(torch.from_numpy(x)) for x in (rows.obs, rows.next_obs))
    action = action_map.to_unit(torch.from_numpy(rows.action)).clamp(-1, 1)
    later, known = rows.next_action()
    replay = Replay.of(
        obs, action, torch.from_numpy(rows.reward), following, torch.from_numpy(rows.terminated)
    )
    report = None
    if config.needs_density and density is None:
        density, report = fit_density(obs, action, config.density, streams, on_density)
    entropy = next_entropy = None
    if density is not None and config.weight == "entropy" and config.algorithm == "td3":
        draws = config.entropy_draws
        entropy = density.entropy(obs, draws, streams.torch("entropy"))
        if config.critic_penalty > 0:
            next_entropy = density.entropy(following, draws, streams.torch("entropy", "next"))
    return Prepared(
        replay,
        standardiser,
        action_map,
        action_map.to_unit(torch.from_numpy(later)).clamp(-1, 1),
        torch.from_numpy(known),
        density,
        report,
        entropy,
        next_entropy,
    )
