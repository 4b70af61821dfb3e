from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")

import random
import signal
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import settings

# The same examples on every run, so that what passed passes again; the slow suite searches anew.
settings.register_profile("gate", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "gate"))


def _global_state() -> dict[str, object]:
    return {
        "torch random state": torch.get_rng_state().tolist(),
        "numpy random state": repr(np.random.get_state()),  # noqa: NPY002
        "python random state": random.getstate(),
        "default dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "anomaly mode": torch.is_anomaly_enabled(),
        "gradient mode": torch.is_grad_enabled(),
        "deterministic mode": torch.are_deterministic_algorithms_enabled(),
        "numpy error mode": np.geterr(),
        "SIGTERM handler": signal.getsignal(signal.SIGTERM),
        "working folder": os.getcwd(),  # noqa: PTH109
    }


@pytest.fixture
def no_global_state() -> Iterator[None]:
    """Fails the test if the code under test changed any process-wide setting or random state."""
    before = _global_state()
    yield
    after = _global_state()
    changed = [name for name, value in before.items() if after[name] != value]
    assert not changed, f"changed: {', '.join(changed)}"
