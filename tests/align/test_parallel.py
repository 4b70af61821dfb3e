"""Two processes take the steps of one, whatever the objective."""

import json
import os
import shutil
import socket
import subprocess
import sys
import warnings
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from esscher.align import FitConfig, fit
from esscher.align.parallel import check_parallel, draw_parts, joined_rows, rows_of
from esscher.align.propose import propose
from esscher.core import Condition, Target
from esscher.errors import ConfigError, WorkerError
from esscher.kit.lm.tabular import TabularLM
from esscher.kit.ranks import Ranks, joined, ranks
from esscher.kit.runs.folder import Run
from tests.align import worlds
from tests.kit.lm.models import hf, small

CASES = {
    "forward_kl": {"objective": "forward_kl"},
    "js": {"objective": "js"},
    "vargrad, replayed": {"objective": "vargrad", "proposal": "replay"},
    "trajectory_balance": {"objective": "trajectory_balance"},
    "reverse_kl, prompts": {"objective": "reverse_kl", "group": 4},
    "forward_kl, prompts": {"objective": "forward_kl", "group": 4, "proposal": "mixture"},
    "reverse_kl, shared out": {"objective": "reverse_kl", "shard": True},
    "vargrad, shared out": {"objective": "vargrad", "shard": True, "check_every": 2},
    "js, prompts, shared out": {"objective": "js", "group": 4, "shard": True},
    "reverse_kl, gpt2, shared out": {"objective": "reverse_kl", "shard": True},
}
SHARED_OUT = [case for case in CASES if "shared out" in case]
NETWORK = ("prompts", "gpt2")


def starts_well(texts):
    return [text.count("a") != 1 for text in texts]


def fitted(case, **more):
    # Adam turns the rounding of a gradient that is 0 into a step of the learning rate's size.
    network = any(name in case for name in NETWORK)
    lr = 1e-4 if network else 0.02
    config = FitConfig(**CASES[case], steps=6, batch=32, lr=lr, credit="sequence", parts=2)
    law = (hf("gpt2", max_new=4) if "gpt2" in case else small(max_new=4)) if network else None
    law = worlds.prior() if law is None else law
    evidence = Condition(starts_well if network else worlds.has_two)
    prompts = ["a", "b"] if "prompts" in case else None
    return fit(law, Target(law, evidence), config=config, prompts=prompts, **more)


def told(result):
    weights = torch.cat([p.reshape(-1) for p in result.policy.module().state_dict().values()])
    losses = [row["loss"] for row in result.history if "loss" in row]
    return {"loss": losses, "weights": weights, "log_z": result.log_z.mean}


class Parts:
    """The largest share of a weight that this process, where it is asked, holds between steps."""

    share = 0.0

    def __call__(self, done, total, info, state):
        policy, moments = state.policy.module(), state.optimiser.state.values()
        tensors = [*policy.parameters(), *(m["exp_avg"] for m in moments)]
        self.share = sum(t.to_local().numel() for t in tensors) / sum(t.numel() for t in tensors)


def worker(rank, file, folder):
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    dist.init_process_group(
        "gloo", init_method=f"file://{file}", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    found = {case: told(fitted(case)) for case in CASES if case not in SHARED_OUT}
    for case in SHARED_OUT:
        parts = Parts()
        own = Path(folder).parent / case
        run = (
            Run.create(own, "align", "fit", case, config=FitConfig(), seed=0) if rank == 0 else None
        )
        result = fitted(case, run=run, save_every=3, on_step=parts)
        found[case] = told(result) | {"share": parts.share}
    run = Run.open(folder) if rank == 0 else None
    found["resumed"] = told(fitted("js", run=run))
    torch.save(found, f"{file}-{rank}")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What two processes found, and what one of them logged into a run that had been stopped."""
    folder = tmp_path_factory.mktemp("ranks")
    run = Run.create(folder, "align", "fit", "js", config=FitConfig(), seed=0)

    def stop(done, *_):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted("js", run=run, save_every=3, on_step=stop)
    mp.spawn(worker, args=(str(folder / "meet"), run.path), nprocs=2)
    return [*(torch.load(folder / f"meet-{rank}") for rank in (0, 1)), folder]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_take_the_steps_of_one(both, case):
    alone = told(fitted(case))
    for found in both[:2]:
        assert found[case]["loss"] == pytest.approx(alone["loss"], abs=1e-6, rel=1e-6)
        assert found[case]["log_z"] == pytest.approx(alone["log_z"], abs=1e-6)
        if "gpt2" not in case:
            both_ways = found[case]["weights"], alone["weights"]
            torch.testing.assert_close(*both_ways, atol=1e-6, rtol=1e-5)
    assert torch.equal(both[0][case]["weights"], both[1][case]["weights"])


@pytest.mark.parametrize("case", SHARED_OUT)
def test_a_checkpoint_of_parts_is_that_of_one_process(both, case):
    assert both[0][case]["share"] == pytest.approx(0.5, abs=0.06)
    (path,) = (both[2] / case).iterdir()
    _, saved = Run.open(path).resume()
    average = torch.cat([v.reshape(-1) for v in saved["average"].values()])
    assert torch.equal(average, both[0][case]["weights"])
    moments = saved["optimiser"]["state"].values()
    shapes = {tuple(v.shape) for v in saved["policy"].values()}
    assert {tuple(m["exp_avg_sq"].shape) for m in moments} <= shapes
    # From its middle one process goes on to the same end.
    (middle,) = (p for p in (path / "state").iterdir() if p.name.startswith("00000003"))
    for p in (path / "state").iterdir():
        if p != middle:
            p.unlink() if p.is_file() else shutil.rmtree(p)
    alone = told(fitted(case, run=Run.open(path)))
    torch.testing.assert_close(alone["loss"], both[0][case]["loss"], atol=1e-6, rtol=1e-6)


def test_a_stopped_fit_goes_on_with_two_processes(both):
    alone = told(fitted("js"))
    for found in both[:2]:
        torch.testing.assert_close(found["resumed"]["weights"], alone["weights"], atol=1e-6, rtol=0)
    assert both[0]["resumed"]["loss"] == pytest.approx(alone["loss"], abs=1e-6)


def test_parts_have_random_numbers_of_their_own():
    config = FitConfig("forward_kl", steps=2, batch=64, lr=0.05)
    one, two = (
        fit(worlds.prior(), worlds.toy(), config=FitConfig(**vars(config) | {"parts": parts}))
        for parts in (1, 2)
    )
    plain = fit(worlds.prior(), worlds.toy(), config=config)
    assert torch.equal(plain.policy.module().logits, one.policy.module().logits)
    assert not torch.equal(plain.policy.module().logits, two.policy.module().logits)


def test_parts_make_one_batch():
    def draw(i):
        rng = worlds.seeded(i)
        return propose(worlds.prior(), worlds.toy(), 40, prompts=None, group=2, rng=rng)

    whole = draw_parts(draw, 2, Ranks())
    assert torch.equal(whole.x, torch.cat([draw(0).x, draw(1).x]))
    counts = torch.bincount(whole.x, minlength=364)
    assert torch.equal(whole.copies, counts[whole.x])


def test_every_row_is_differentiated_once():
    rows = torch.cat([rows_of(11, Ranks(r, 3)) for r in range(3)])
    assert rows.sort().values.tolist() == list(range(11))
    assert torch.equal(joined_rows(torch.arange(5.0), 5, Ranks()), torch.arange(5.0))


@pytest.mark.parametrize(
    ("settings", "batch", "world", "prompts", "message"),
    [
        ({"parts": 3}, 12, 2, False, "12 draws a step in 3 parts"),
        ({"parts": 2}, 13, 2, False, "13 draws a step in 2 parts"),
        ({"objective": "vargrad", "proposal": "replay"}, 6, 2, False, "3 draws a step"),
        ({"parts": 2, "group": 16}, 48, 2, True, "whole groups"),
        ({"objective": "ppo"}, 12, 2, False, "ppo trains in one process"),
        ({"credit": "token"}, 12, 2, False, "credit='token' trains in one process"),
    ],
)
def test_what_cannot_be_shared_out_is_refused(settings, batch, world, prompts, message):
    config = FitConfig(**settings)
    with pytest.raises(ConfigError, match=message):
        check_parallel(config, batch, Ranks(0, world), prompts=prompts)


def test_alone_without_torchrun(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined() as here:
        assert here == ranks() == Ranks(0, 1)
        assert here.gather("x") == ["x"]
        assert here.of_first("y") == "y"


def test_a_world_that_is_not_there_is_an_error(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="start them with torchrun"), joined():
        pass


def leave(rank, file):
    dist.init_process_group(
        "gloo", init_method=f"file://{file}", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    here = ranks()
    here.gather(rank)
    if rank == 1:
        os._exit(0)
    weight = torch.nn.Parameter(torch.ones(3))
    weight.grad = torch.ones(3)
    told = []
    gather, first = partial(here.gather, 1), partial(here.of_first, 1)
    for call in (gather, first, partial(here.add_gradients, [weight])):
        try:
            call()
        except WorkerError as error:
            told.append(str(error))
    Path(f"{file}-told").write_text(json.dumps(told))
    os._exit(0)


def test_a_process_that_dies_is_told_of(tmp_path):
    mp.spawn(leave, args=(str(tmp_path / "meet"),), nprocs=2)
    told = json.loads((tmp_path / "meet-told").read_text())
    assert len(told) == 3
    assert all(text.startswith("process 0 of 2 lost the others") for text in told)


def test_the_command_under_torchrun_writes_one_run(tmp_path):
    TabularLM(alphabet=2, max_len=4).save(tmp_path / "prior")
    (tmp_path / "judge.py").write_text("def fine(xs):\n    return [x[-1] == 2 for x in xs]\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *[sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"],
        *["--master-addr", "127.0.0.1", "--master-port", str(port), "-m", "esscher", "--"],
        *["align", "fit", "--prior", "prior", "--condition", "judge:fine", "--steps", "8"],
        *["--batch", "64", "--n", "50", "--json", "-q"],
    ]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.strip().splitlines()
    result = json.loads(line)
    assert result["steps"] == 8
    assert len(list((tmp_path / "runs").iterdir())) == 1
    assert Path(tmp_path / result["report"]).exists()
