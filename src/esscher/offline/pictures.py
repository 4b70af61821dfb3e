"""Figures of the known problems: what each learner does beside what the data hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray

from esscher.kit.rl.rollout import rollout
from esscher.kit.runs.figures import COLOURS, Series, line_figure
from esscher.kit.runs.seeds import Streams
from esscher.offline.data import MixedDataset
from esscher.offline.densities.base import BehaviourDensity
from esscher.offline.problems.point_mass import CENTRE, GOAL, RADIUS, START, PointMass
from esscher.offline.training import FitResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["density_figure", "policy_figure", "trajectory_figure", "weight_figure"]

SHOWN_POINTS = 1500
_DATA = "#9aa3ad"


def policy_figure(dataset: MixedDataset, fits: Mapping[str, FitResult]) -> Figure:
    """The bandit's actions against its states: dots for the data, a line per learner."""
    grid = np.linspace(-1, 1, 401, dtype=np.float32)[:, None]
    series = [Series(name, grid[:, 0], result.policy(grid)[:, 0]) for name, result in fits.items()]
    figure = line_figure(series, xlabel="state", ylabel="action")
    axes = _axes(figure)
    rows = dataset.transitions
    every = max(1, len(rows) // SHOWN_POINTS)
    axes.scatter(rows.obs[::every, 0], rows.action[::every, 0], s=3, color=_DATA, zorder=0.5)
    axes.set_ylim(-1.05, 1.05)
    return figure


def density_figure(fits: Mapping[str, FitResult], state: float) -> Figure:
    """The behaviour density in one state of the bandit, and where each learner acts in it."""
    result = next(r for r in fits.values() if r.data.density is not None)
    density = cast("BehaviourDensity", result.data.density)
    grid = torch.linspace(-1.1, 1.1, 441)[:, None]
    obs = result.data.standardiser(torch.tensor([[state]])).expand(len(grid), 1)
    with torch.no_grad():
        height = density.log_prob(obs, grid).exp().double().numpy()
    figure = line_figure(
        [Series("fitted density of the data", grid[:, 0].numpy(), height, style=6)],
        xlabel=f"action in state {state:g}",
        ylabel="density",
    )
    axes = _axes(figure)
    for number, (name, fit) in enumerate(fits.items()):
        action = float(fit.policy(np.array([[state]], dtype=np.float32))[0, 0])
        axes.axvline(action, color=COLOURS[number], linewidth=1.6, label=name)
    figure.legends.clear()
    figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=8)
    return figure


def weight_figure(result: FitResult) -> Figure:
    """Weight and entropy of the bandit's states."""
    entropy = result.data.entropy
    assert entropy is not None
    weight = (-(entropy - entropy.mean())).exp().clamp(0.1, 10)
    weight /= weight.mean()
    replay, statistics = result.data.replay, result.data.standardiser
    state = (replay.rows[:, 0] * statistics.std[0] + statistics.mean[0]).double().numpy()
    order = np.argsort(state)
    parts = np.array_split(order, 60)
    mean: NDArray[np.float64] = np.array([state[p].mean() for p in parts])
    lines = [
        Series(name, mean, np.array([float(values[torch.from_numpy(p)].mean()) for p in parts]))
        for name, values in (("weight w(s)", weight), ("entropy H(s), nats", entropy))
    ]
    return line_figure(lines, xlabel="state", ylabel="", reference={"mean weight": 1.0})


def trajectory_figure(dataset: MixedDataset, fits: Mapping[str, FitResult], seed: int) -> Figure:
    """Ten ways of every learner past the obstacle, over those of the experts."""
    paths: list[Series] = []
    for number, (name, result) in enumerate(fits.items()):
        env = PointMass(10, Streams(seed).numpy("picture"))
        for i, episode in enumerate(rollout(env, result.policy, 10).episodes()):
            label = name if i == 0 else f"_{name}"
            paths.append(Series(label, episode.obs[:, 0], episode.obs[:, 1], style=number))
    figure = line_figure(paths, xlabel="x", ylabel="y")
    figure.set_size_inches(5.4, 4.6)
    axes = _axes(figure)
    rows = dataset.transitions
    axes.scatter(rows.obs[:, 0], rows.obs[:, 1], s=2, color=_DATA, zorder=0.5)
    from matplotlib.patches import Circle  # noqa: PLC0415 - its import is slow, see figures

    axes.add_patch(Circle(CENTRE, RADIUS, color="#e3e6ea", zorder=0.4))
    for place, text in ((START, "start"), (GOAL, "goal")):
        axes.annotate(text, place, textcoords="offset points", xytext=(8, -3), fontsize=8)
    axes.set_aspect("equal")
    figure.legends.clear()
    figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=8)
    return figure


def _axes(figure: Figure) -> Axes:
    return figure.axes[0]
