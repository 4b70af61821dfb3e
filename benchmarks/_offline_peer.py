"""d3rlpy's TD3+BC on the file and with the sizes that ours is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from _harness import Numbers, Spread, interval, note
from _offline_tasks import PENDULUM, evaluated, logs, mixed, references, scores

from esscher.kit.rl.evaluate import last_k_mean, normalised_score, seed_estimate
from esscher.offline.data import MixedDataset

LOOKS = 10
SIZE = {"steps": 20_000, "td3__width": 64}
TASK = replace(PENDULUM, methods=("td3_bc",), alphas=(2.5,), size=SIZE)


def parity(seeds: Sequence[int]) -> Numbers:
    """Scores of both TD3+BC on mixed Pendulum; nothing where d3rlpy is not installed."""
    try:
        import d3rlpy  # noqa: F401
    except ImportError:
        note("  d3rlpy is not installed; its scores are not measured")
        return {}
    parts, scale = logs(TASK), references(TASK)
    own, theirs = [], []
    for seed in seeds:
        dataset = mixed(parts, TASK.mixes["mixed"], seed)
        own.append(scores(TASK, dataset, seed, scale)["td3_bc"])
        theirs.append(normalised_score(d3rlpy_return(dataset, seed), *scale))
        note(f"  {TASK.env}, seed {seed}, d3rlpy TD3PlusBC: {theirs[-1]:.1f}")
    pooled = float(np.sqrt((np.var(own, ddof=1) + np.var(theirs, ddof=1)) / 2))
    gap = abs(float(np.mean(own)) - float(np.mean(theirs))) / pooled
    return {
        f"{TASK.env}, same file, ours td3_bc: score": interval(seed_estimate(own)),
        f"{TASK.env}, same file, d3rlpy TD3PlusBC: score": interval(seed_estimate(theirs)),
        "parity: gap of scores over pooled std": Spread.of([gap]),
    }


def d3rlpy_return(dataset: MixedDataset, seed: int) -> float:
    """Mean return of the last three of ten evaluations."""
    import d3rlpy

    d3rlpy.seed(seed)
    rows, width, steps = dataset.transitions, SIZE["td3__width"], SIZE["steps"]
    data = d3rlpy.dataset.MDPDataset(
        rows.obs, rows.action, rows.reward, rows.terminated, rows.truncated
    )
    encoder = d3rlpy.models.VectorEncoderFactory(hidden_units=[width, width])
    low, high = (np.array(bound, dtype=np.float32) for bound in (dataset.low, dataset.high))
    algorithm = d3rlpy.algos.TD3PlusBCConfig(
        actor_encoder_factory=encoder,
        critic_encoder_factory=encoder,
        observation_scaler=d3rlpy.preprocessing.StandardObservationScaler(
            mean=rows.obs.mean(0), std=rows.obs.std(0)
        ),
        action_scaler=d3rlpy.preprocessing.MinMaxActionScaler(minimum=low, maximum=high),
    ).create(device="cpu:0")
    algorithm.build_with_dataset(data)
    seen = []
    for done in range(1, steps + 1):
        algorithm.update(data.sample_transition_batch(256))
        if done % (steps // LOOKS) == 0:
            policy: Any = algorithm.predict
            seen.append(evaluated(TASK.env, policy, seed)["return"])
    return last_k_mean(seen, 3)
