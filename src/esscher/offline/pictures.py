"""Figures of the known problems: what each learner does beside what the data hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray

from esscher.kit.rl.rollout import rollout
from esscher.kit.runs.figures import COLOURS, Series, line_figure
from esscher.kit.runs.seeds import Streams
from esscher.offline.data import MixedDataset
from esscher.offline.densities.base import BehaviourDensity
from esscher.offline.diagnose import Neighbourhood, state_weights
from esscher.offline.problems.point_mass import CENTRE, GOAL, RADIUS, START, PointMass
from esscher.offline.training import FitResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "action_figure",
    "density_figure",
    "policy_figure",
    "spread_figure",
    "trajectory_figure",
    "weight_figure",
]

SHOWN_POINTS = 1500
SHOWN_DIMENSIONS = 4
WEIGHTS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
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
    entropy, weight = result.data.entropy, state_weights(result)
    assert entropy is not None
    assert weight is not None
    replay, statistics = result.data.replay, result.data.standardiser
    state = (replay.rows[:, 0] * statistics.std[0] + statistics.mean[0]).double().numpy()
    order = np.argsort(state)
    parts = np.array_split(order, 60)
    mean: NDArray[np.float64] = np.array([state[p].mean() for p in parts])
    lines = [
        Series(name, mean, np.array([float(values[p].mean()) for p in parts]))
        for name, values in (("weight w(s)", weight), ("entropy H(s), nats", entropy.numpy()))
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


def action_figure(places: Sequence[Neighbourhood], fits: Mapping[str, FitResult]) -> Figure:
    """In chosen states, per action dimension: the data near by, the density, each policy's action.

    Actions are in units of half the box. Of more than four dimensions the first four are drawn.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - its import is slow, see figures

    dims = min(places[0].data.shape[1], SHOWN_DIMENSIONS)
    figure = Figure(
        figsize=(max(5.4, 1.2 + 2.2 * dims), 1.7 * len(places) + 0.7), layout="constrained"
    )
    grid = figure.subplots(len(places), dims, squeeze=False)
    edges = np.linspace(-1.15, 1.15, 47)
    for row, place in zip(grid, places, strict=True):
        with torch.no_grad():
            acts = {name: result.learner.actor(place.obs)[0] for name, result in fits.items()}
        for j, axes in enumerate(row):
            axes.hist(place.data[:, j].numpy(), edges, density=True, color=_DATA, alpha=0.6,
                      label="data in the nearest states")  # fmt: skip
            height, _ = np.histogram(place.draws[:, j].numpy(), edges, density=True)
            axes.stairs(height, edges, color=COLOURS[-1], label="fitted density")
            axes.plot(place.modes[:, j].numpy(), np.zeros(len(place.modes)), "^", markersize=6,
                      color=COLOURS[-1], clip_on=False, label="its modes")  # fmt: skip
            for number, (name, action) in enumerate(acts.items()):
                axes.axvline(float(action[j]), color=COLOURS[number], linewidth=1.6, label=name)
            axes.set_xlim(edges[0], edges[-1])
            axes.tick_params(labelsize=7, length=3)
            axes.spines[["top", "right"]].set_visible(False)
        row[0].set_ylabel("density", fontsize=8)
        row[0].set_title(place.label, fontsize=8, loc="left")
    for j, axes in enumerate(grid[-1]):
        axes.set_xlabel(f"action {j + 1}", fontsize=8)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=3, frameon=False, fontsize=8)
    return figure


def spread_figure(dataset: MixedDataset, weight: NDArray[np.float64]) -> Figure:
    """How the weights of the states are spread, for the states of each behaviour policy."""
    edges = np.geomspace(max(weight.min(), 1e-3) * 0.95, weight.max() * 1.05, 41)
    centre = np.sqrt(edges[1:] * edges[:-1])
    series = []
    for identity, name in enumerate(dataset.policies):
        own = weight[dataset.transitions.policy_id == identity]
        if len(own):
            series.append(Series(name, centre, np.histogram(own, edges)[0] / len(own)))
    figure = line_figure(series, xlabel="weight w(s)", ylabel="share of the policy's states")
    axes = _axes(figure)
    axes.set_xscale("log")
    axes.set_xticks(WEIGHTS, [f"{w:g}" for w in WEIGHTS])
    axes.set_xticks([], minor=True)
    axes.set_xlim(edges[0], edges[-1])
    return figure


def _axes(figure: Figure) -> Axes:
    return figure.axes[0]
