"""Fits that share the prior's draws find what they find alone, whatever happens to the files."""

import pytest
import torch

from esscher.align import shared, train
from esscher.align.evaluate import evaluate, evaluation_reference
from esscher.align.fit import fit
from esscher.align.reference import Reference
from esscher.align.shared import SharedDraws
from esscher.core import Condition, Target
from tests.align import worlds
from tests.kit.lm.models import small

SHORT = {"steps": 4, "batch": 32}


def texts_with_a():
    return Target(small(max_new=5), Condition(lambda texts: ["a" in t for t in texts]))


def counted(monkeypatch):
    """The laws that batches were drawn from, as training asks for them."""
    laws = []

    def propose(law, *args, **kwargs):
        laws.append(law)
        return original(law, *args, **kwargs)

    original = train.propose
    monkeypatch.setattr(train, "propose", propose)
    return laws


@pytest.mark.parametrize("target", [texts_with_a, worlds.toy], ids=["network", "table"])
def test_the_second_fit_draws_nothing_and_finds_the_same(target, monkeypatch, tmp_path):
    target = target()
    draws = SharedDraws(tmp_path / "draws")
    alone = fit(target.prior, target, "js", proposal="prior", **SHORT)
    laws = counted(monkeypatch)
    first = fit(target.prior, target, "sft_posterior", shared=draws, **SHORT)
    assert len(laws) == 4
    second = fit(target.prior, target, "js", proposal="prior", shared=draws, **SHORT)
    assert len(laws) == 4
    assert second.history == alone.history
    assert first.history != alone.history


def test_draws_of_a_policy_are_not_shared(monkeypatch, tmp_path):
    laws = counted(monkeypatch)
    target = worlds.toy()
    draws = SharedDraws(tmp_path / "draws")
    fit(target.prior, target, "reverse_kl", shared=draws, **SHORT)
    assert len(laws) == 4
    assert not draws.folder.exists()


@pytest.mark.parametrize("damage", ["empty", "cut", "foreign"])
def test_a_damaged_file_is_drawn_and_written_again(damage, tmp_path):
    target = texts_with_a()
    draws = SharedDraws(tmp_path)
    first = fit(target.prior, target, "sft_posterior", shared=draws, **SHORT)
    file = tmp_path / "32-1.pt"
    whole = file.read_bytes()
    if damage == "foreign":
        torch.save({"x": 1}, file)
    else:
        file.write_bytes(b"" if damage == "empty" else whole[: len(whole) // 2])
    again = fit(target.prior, target, "sft_posterior", shared=draws, **SHORT)
    assert again.history == first.history
    assert isinstance(torch.load(file, weights_only=False), train.Scored)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"32-{i}.pt" for i in range(4)]


def test_a_full_disk_costs_only_time(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    target = worlds.toy()
    alone = fit(target.prior, target, "js", **SHORT)
    monkeypatch.setattr(shared.torch, "save", full)
    found = fit(target.prior, target, "js", shared=SharedDraws(tmp_path), **SHORT)
    assert found.history == alone.history
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("target", [texts_with_a, worlds.toy], ids=["network", "table"])
def test_the_target_s_draws_are_those_evaluate_makes_itself(target, tmp_path):
    target = target()
    draws = SharedDraws(tmp_path)
    calls = []

    def draw():
        calls.append(1)
        return evaluation_reference(target, 50, seed=3)

    alone = evaluate(target.prior, target, 50, seed=3)
    for _ in range(2):
        reference = draws.get("evaluation", Reference, draw)
        assert evaluate(target.prior, target, 50, seed=3, reference=reference) == alone
    assert len(calls) == 1
