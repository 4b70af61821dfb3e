"""Learners side by side on the problems whose optimum is known, over seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from esscher.core.estimate import Estimate
from esscher.kit.rl.evaluate import seed_estimate
from esscher.kit.runs.seeds import Streams
from esscher.offline.config import OfflineConfig, configuration
from esscher.offline.diagnose import start_value, state_weights
from esscher.offline.prepare import Prepared, prepare
from esscher.offline.problems.bandit import bandit_data, bandit_scores
from esscher.offline.problems.grid import grid_optimum
from esscher.offline.problems.point_mass import PointMass, point_mass_data, point_mass_scores
from esscher.offline.training import FitResult, train

__all__ = [
    "BANDIT_SIZE",
    "POINT_MASS_SIZE",
    "Study",
    "bandit_study",
    "point_mass_study",
    "problem_methods",
    "small_methods",
]

BANDIT_SIZE: dict[str, Any] = {
    "steps": 1800, "td3__width": 64, "density__width": 64, "density__steps": 1200,
}  # fmt: skip
POINT_MASS_SIZE: dict[str, Any] = {
    "steps": 1500, "td3__width": 64, "td3__lr_critic": 1e-3, "td3__tau": 0.02,
    "td3__critic_norm": True, "density__width": 64, "density__steps": 1500,
}  # fmt: skip
"""Critics that learn fast and are normalised: values have to travel 15 steps within 1500."""
BANDIT_WARM = 600
GAMMA = 0.99
METHODS = ("bc", "td3_bc", "td3_rkl_unweighted", "td3_rkl")

Said = Callable[[str], None]


@dataclass(frozen=True)
class Study:
    """Scores of every method and seed, and the fits of the first seed.

    Attributes:
        scores: method -> one mapping of scores per seed.
        first: method -> its fit with the first seed.
    """

    scores: dict[str, list[dict[str, float]]]
    first: dict[str, FitResult]

    def estimates(self, names: Sequence[str]) -> dict[str, dict[str, Estimate]]:
        """Method -> score -> mean over seeds."""
        return {
            method: {name: seed_estimate([row[name] for row in rows]) for name in names}
            for method, rows in self.scores.items()
        }


def problem_methods(
    names: Sequence[str], *, warm: int = 1000, **changes: Any
) -> dict[str, OfflineConfig]:
    """Configurations by name with the same changes; a warm start takes at most `warm` steps."""
    found = {}
    for name in names:
        config = configuration(name, **changes)
        found[name] = replace(config, warm_start=min(config.warm_start, warm))
    return found


def small_methods(size: Mapping[str, Any], alpha: float) -> dict[str, OfflineConfig]:
    """The methods of the demonstration at one size and one scale of Q."""
    warm = BANDIT_WARM if size is BANDIT_SIZE else 1000
    return problem_methods(METHODS, warm=warm, alpha=alpha, **size)


def bandit_study(
    methods: Mapping[str, OfflineConfig], seeds: Sequence[int], say: Said | None = None
) -> Study:
    """Every method on the bandit, once per seed; data and density of a seed are shared.

    Scores are those of `bandit_scores`, and "weight_ratio", the mean weight where the data are
    narrow over that where they are wide.
    """

    def scores(result: FitResult, seed: int) -> dict[str, float]:
        del seed
        return bandit_scores(result.policy.actor, result.data.standardiser) | {
            "weight_ratio": _weight_ratio(result)
        }

    return _study("bandit", bandit_data, methods, seeds, scores=scores, say=say)


def point_mass_study(
    methods: Mapping[str, OfflineConfig], seeds: Sequence[int], say: Said | None = None
) -> Study:
    """Every method on the point mass, once per seed; data and density of a seed are shared.

    Scores: "collision_rate", "return", "return_ratio" over the optimum of value iteration from the
    same starts, and of learners with a critic "q_start" and "value_start": what it promises at the
    starts, and the discounted return there.
    """
    optimum = grid_optimum().policy

    def scores(result: FitResult, seed: int) -> dict[str, float]:
        best = point_mass_scores(optimum, seed=seed)["return"]
        found = point_mass_scores(result.policy, seed=seed)
        env = PointMass(50, Streams(seed).numpy("overestimate"))
        told = start_value(result, env, gamma=GAMMA, episodes=50)
        values = {} if told is None else {"q_start": told.promised, "value_start": told.kept}
        numbers = {name: value.mean for name, value in values.items()}
        return found | {"return_ratio": found["return"] / best} | numbers

    return _study(
        "point mass",
        lambda seed: point_mass_data(seed=seed),
        methods,
        seeds,
        scores=scores,
        say=say,
        evaluate=lambda policy: point_mass_scores(policy, episodes=50),
    )


def _weight_ratio(result: FitResult) -> float:
    weight = state_weights(result)
    if weight is None:
        return 1.0
    narrow = (
        result.data.replay.rows[:, 0]
        < -result.data.standardiser.mean[0] / (result.data.standardiser.std[0])
    )
    apart = narrow.numpy()
    return float(weight[apart].mean() / weight[~apart].mean())


def _study(
    name: str,
    make: Callable[..., Any],
    methods: Mapping[str, OfflineConfig],
    seeds: Sequence[int],
    *,
    scores: Callable[[FitResult, int], dict[str, float]],
    say: Said | None,
    evaluate: Callable[[Any], dict[str, Any]] | None = None,
) -> Study:
    found: dict[str, list[dict[str, float]]] = {method: [] for method in methods}
    first: dict[str, FitResult] = {}
    for seed in seeds:
        shared = _prepared(methods, make(seed=seed), seed)
        for method, config in methods.items():
            result = train(config, shared, seed=seed, evaluate=evaluate)
            found[method].append(scores(result, seed))
            first.setdefault(method, result)
            if say is not None:
                row = found[method][-1]
                told = ", ".join(f"{key} {value:.3f}" for key, value in list(row.items())[:3])
                say(f"{name}, seed {seed}, {method}: {told}")
    return Study(found, first)


def _prepared(methods: Mapping[str, OfflineConfig], dataset: Any, seed: int) -> Prepared:
    """Data prepared for the most demanding method; the others use less of it."""
    order = sorted(methods.values(), key=lambda c: (c.needs_density, c.weight == "entropy"))
    return prepare(order[-1], dataset, seed)
