import resource
import shutil
import subprocess
import sys
import textwrap
import time

import pytest
import torch

from esscher.errors import CheckpointError
from esscher.kit.runs import checkpoint
from esscher.kit.runs.checkpoint import checkpoint_steps, load_checkpoint, save_checkpoint


def save(folder, step, **kwargs):
    tensors = {"w": torch.full((4,), float(step)), "empty": torch.zeros(0)}
    return save_checkpoint(folder, step, tensors, {"step": step}, **kwargs)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_is_saved_is_loaded(tmp_path, no_global_state):
    shared = torch.arange(6.0).reshape(2, 3)
    tensors = {
        "a": shared,
        "tied": shared,
        "slice": shared[0],
        "turned": shared.T,
        "bits": torch.tensor([True]),
        "grad": torch.ones(2, requires_grad=True),
    }
    save_checkpoint(tmp_path / "state", 5, tensors, {"x": [1, None], "big": 2**100})
    step, loaded, state = load_checkpoint(tmp_path / "state")
    assert (step, state) == (5, {"x": [1, None], "big": 2**100})
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)


def test_the_last_two_stay(tmp_path):
    for step in (0, 10, 20, 30):
        save(tmp_path, step)
    assert checkpoint_steps(tmp_path) == [20, 30]
    assert load_checkpoint(tmp_path).step == 30
    assert load_checkpoint(tmp_path, 20).tensors["w"][0] == 20
    with pytest.raises(CheckpointError, match="step 10; steps there: 20, 30"):
        load_checkpoint(tmp_path, 10)


def test_saving_a_step_again_replaces_it_and_drops_the_abandoned_future(tmp_path):
    save(tmp_path, 10)
    save(tmp_path, 20)
    save_checkpoint(tmp_path, 10, {"w": torch.zeros(1)}, {"second": True})
    assert checkpoint_steps(tmp_path) == [10]
    assert load_checkpoint(tmp_path).state == {"second": True}
    assert names(tmp_path) == ["00000010-1", "latest"]


@pytest.mark.parametrize("file", ["state.json", "tensors.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "flip", "gone"])
def test_a_damaged_checkpoint_is_passed_over_aloud(tmp_path, file, damage):
    save(tmp_path, 1)
    path = save(tmp_path, 2) / file
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        content[-5] ^= 1
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else content)
    with pytest.warns(RuntimeWarning, match=r"00000002-0.*continuing from step 1"):
        assert load_checkpoint(tmp_path).step == 1
    shutil.rmtree(tmp_path / "00000001-0")
    with pytest.raises(CheckpointError, match="no checkpoint is intact"):
        load_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(tmp_path, 2)


def test_no_checkpoint_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match="does not hold a checkpoint; steps there: none"):
        load_checkpoint(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("step", "state", "keep"), [(-1, {}, 2), (1, {}, 0), (1, {"x": object()}, 2)]
)
def test_impossible_requests_are_refused(tmp_path, step, state, keep):
    with pytest.raises(CheckpointError):
        save_checkpoint(tmp_path, step, {}, state, keep=keep)
    assert not any(tmp_path.iterdir())


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path, monkeypatch):
    save(tmp_path, 1)

    def full(tensors, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(CheckpointError, match="the disk is full: free space"):
        save(tmp_path, 2)
    assert names(tmp_path) == ["00000001-0", "latest"]
    assert load_checkpoint(tmp_path).step == 1


def test_a_file_size_limit_met_by_the_real_writer_is_reported(tmp_path):
    code = f"""
    import resource, torch
    from pathlib import Path
    from esscher.kit.runs.checkpoint import save_checkpoint
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, resource.RLIM_INFINITY))
    save_checkpoint(Path({str(tmp_path)!r}), 2, {{"w": torch.zeros(1 << 16)}}, {{}})
    """
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    save(tmp_path, 1)
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "CheckpointError: cannot write the checkpoint of step 2" in done.stderr
    assert "the disk is full" in done.stderr
    assert names(tmp_path) == ["00000001-0", "latest"]


def test_ctrl_c_while_writing_leaves_no_rest(tmp_path, monkeypatch):
    save(tmp_path, 1)

    def interrupt(tensors, path):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_file", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 2)
    assert names(tmp_path) == ["00000001-0", "latest"]


WRITER = """
import os, sys, torch
from pathlib import Path
from esscher.kit.runs.checkpoint import save_checkpoint
folder = Path(sys.argv[1])
for trial in range(20):
    child = os.fork()
    if child == 0:
        for step in range(1, 10_000):
            tensors = {"w": torch.full((50_000,), float(step))}
            save_checkpoint(folder / str(trial), step, tensors, {"step": step})
    print(child, flush=True)
    os.waitpid(child, 0)
"""


def test_a_process_killed_at_any_moment_leaves_a_checkpoint(tmp_path):
    import os
    import random
    import signal

    order = random.Random(0)
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        for trial, line in enumerate(parent.stdout):
            folder = tmp_path / str(trial)
            while not (folder / "latest").exists():
                time.sleep(0.002)
            time.sleep(order.uniform(0.0, 0.06))
            os.kill(int(line), signal.SIGKILL)
            loaded = load_checkpoint(folder)
            assert loaded.step == loaded.state["step"] >= 1
            assert bool((loaded.tensors["w"] == loaded.step).all())
    assert parent.returncode == 0
    assert trial == 19
