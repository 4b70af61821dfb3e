"""Prepared data: what the replay holds, and how much memory it takes."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from esscher.errors import ConfigError
from esscher.offline import configuration
from esscher.offline import prepare as module
from esscher.offline.prepare import prepare
from esscher.offline.problems.point_mass import point_mass_data
from esscher.offline.training import make_learner

ROWS = 300_000
MEASURED = f"""
import json
import numpy as np
from pathlib import Path
from esscher.kit.rl.transitions import Transitions
from esscher.offline import MixedDataset, configuration
from esscher.offline.prepare import prepare

def most():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

def data(n):
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(n + 1, 11)).astype(np.float32)
    off, numbers = np.zeros(n, bool), np.arange(n) // 1000
    rows = Transitions(obs[:-1], np.zeros((n, 3), np.float32), np.zeros(n, np.float32), obs[1:],
                       off, off, np.zeros(n, np.int32), numbers)
    return MixedDataset(rows, (-1.0,) * 3, (1.0,) * 3)

prepare(configuration("td3_bc"), data(2000), 0)
whole = data({ROWS})
Path("/proc/self/clear_refs").write_text("5")
before = most()
kept = prepare(configuration("td3_bc"), whole, 0)
print(json.dumps({{"taken": most() - before, "block": kept.replay.rows.numel() * 4}}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_preparing_takes_little_more_than_its_block():
    done = subprocess.run(
        [sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert found["block"] == ROWS * (2 * 11 + 3 + 2) * 4
    assert found["taken"] < 1.4 * found["block"]


def test_the_replay_is_the_data_in_standard_units_part_by_part(monkeypatch):
    dataset = point_mass_data(episodes=20)
    whole = prepare(configuration("td3_bc"), dataset, 0)
    monkeypatch.setattr(module, "PART", 7)
    parts = prepare(configuration("td3_bc"), dataset, 0)
    assert torch.equal(whole.replay.rows, parts.replay.rows)
    batch = whole.replay.at(torch.arange(len(dataset)))
    rows = dataset.transitions
    assert torch.equal(batch.obs, whole.standardiser(torch.from_numpy(rows.obs)))
    assert torch.equal(batch.next_obs, whole.standardiser(torch.from_numpy(rows.next_obs)))
    assert torch.equal(batch.continues, 1 - torch.from_numpy(rows.terminated).float())
    assert batch.action.abs().max() <= 1


def test_data_prepared_for_less_are_refused():
    dataset = point_mass_data(episodes=20)
    plain = prepare(configuration("td3_bc"), dataset, 0)
    with pytest.raises(ConfigError, match="next actions"):
        make_learner(configuration("rebrac"), plain, 0)
    with pytest.raises(ConfigError, match="without a density"):
        make_learner(configuration("td3_rkl"), plain, 0)
    assert prepare(configuration("rebrac", td3__batch=32), dataset, 0).next_action is not None
    assert replace(plain, density=None).next_known is None
