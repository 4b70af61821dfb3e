"""The benchmarks as programs: their command lines, and the file they are held against."""

import importlib
import importlib.util
import json
import math
import sys
import time
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"
NAMES = sorted(path.stem for path in FOLDER.glob("[!_]*.py"))
EXPECTED = json.loads((FOLDER / "expected.json").read_text())
KEYS = {"value", "low", "high", "tolerance", "configuration", "seen", "published"}


@pytest.fixture(autouse=True)
def own_path(monkeypatch):
    """Scripts put their folder on the path and fix the threads; neither outlives a test."""
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def load(name):
    return importlib.import_module(name)


@pytest.mark.parametrize("name", NAMES)
def test_every_script_has_help(name, capsys):
    script = load(name)
    harness = load("_harness")
    with pytest.raises(SystemExit) as stop:
        harness.main(name, script.__doc__, script.measure, ["--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert "--quick" in out
    assert "--json" in out


def test_expected_is_of_scripts_that_exist():
    assert set(EXPECTED) == set(NAMES)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_expected_entries_are_complete(name):
    for number, entry in EXPECTED[name].items():
        assert set(entry) <= KEYS, number
        assert {"value", "tolerance", "configuration", "seen"} <= set(entry), number
        low, median, high = entry["seen"]
        assert low <= median <= high, number
        assert entry["value"] == median, number
        assert entry["tolerance"] >= 0, number


def test_a_number_passes_by_bound_or_by_tolerance():
    passes = load("_harness").passes
    assert passes(2.1, {"low": 2.0})
    assert not passes(1.9, {"low": 2.0, "value": 1.9, "tolerance": 1.0})
    assert not passes(2.1, {"high": 2.0})
    assert passes(2.1, {"value": 2.0, "tolerance": 0.2})
    assert not passes(2.3, {"value": 2.0, "tolerance": 0.2})
    assert not passes(float("nan"), {"low": 2.0})


def test_a_number_outside_is_reported(monkeypatch, capsys):
    harness = load("_harness")
    expected = {"one": {"thing": {"value": 1.0, "low": 1.0, "tolerance": 0.0}}}
    monkeypatch.setattr(harness, "read_expected", lambda: expected)
    measured = {"thing": harness.Spread.of([0.5, 0.4, 0.9]), "other": harness.single(3.0)}
    assert harness.main("one", "", lambda quick: measured, ["--json"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any("OUTSIDE" in line and "0.5 [0.4, 0.9]" in line for line in lines)
    found = json.loads(lines[-1])
    assert found["ok"] is False
    assert [row["passes"] for row in found["numbers"]] == [False, None]
    assert not any("published" in line for line in lines[:-1])


def test_what_was_published_stands_beside(monkeypatch, capsys):
    harness = load("_harness")
    entry = {"value": 1.0, "tolerance": 0.5}
    expected = {"one": {"thing": entry | {"published": 1.25}, "other": entry, "third": entry}}
    monkeypatch.setattr(harness, "read_expected", lambda: expected)
    measured = {"thing": harness.single(1.0), "other": harness.single(1.0)}
    assert harness.main("one", "", lambda quick: measured, []) == 0
    _, head, thing, other, third = capsys.readouterr().out.splitlines()
    at = head.index("published")
    assert [line[at : at + 9].strip() for line in (thing, other, third)] == ["1.25", "", ""]
    assert thing.endswith("ok")
    assert other.endswith("ok")
    assert "not measured" in third


def test_rounds_alternate_and_ratios_are_paired():
    harness = load("_harness")
    order = []

    def case(name, cpu):
        return lambda: (order.append(name), harness.Timing(cpu, cpu))[1]

    times = harness.interleaved({"a": case("a", 4.0), "b": case("b", 2.0)}, 3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert harness.ratio(times["a"], times["b"]) == harness.Spread(2.0, 2.0, 2.0)


def test_flops_of_a_hand_counted_step():
    """One layer of width 2, one row of one token, three ids: 12 d² + 2 d (attention) + V d."""
    speed = load("training_speed")
    shape = speed.GPTConfig(3, 4, width=2, layers=1, heads=1)
    assert speed.forward_flops(shape, 1, 1) == 2 * (12 * 4 + 2 * 2 + 3 * 2)
    assert speed.step_flops(shape, 5, 1) == 15 * speed.forward_flops(shape, 1, 1)


def test_toy_world_is_the_one_of_the_study():
    toy = load("toy")
    world = toy.World()
    p0, star = world.prior.sum(1).exp(), world.posterior.exp()
    assert float((p0 * world.reward).sum()) == pytest.approx(0.0770, abs=5e-5)
    assert float((star * world.reward).sum()) == pytest.approx(0.4984, abs=5e-5)


def test_k1_as_a_loss_has_no_gradient_of_its_own():
    toy = load("toy")
    world = toy.World()
    logits = world.logits.clone().requires_grad_()
    pi = world.token_log_probs(logits)
    mass = pi.detach().sum(1).exp()
    (mass * toy.k1_loss(pi, world.prior, torch.zeros_like(world.reward))).sum().backward()
    assert float(logits.grad.abs().max()) < 1e-15


def test_toy_runs_from_end_to_end():
    found = load("toy").objectives(("forward_kl",))
    assert found["forward_kl: TVD"].median < 2e-3


def test_the_distance_of_the_prior_is_that_of_its_own_rewards(monkeypatch):
    """KL(p0‖p*) = log E exp(r/β) - E r/β for each prompt, here from other draws."""
    script, t0 = load("align_vs_trl"), load("_t0")
    monkeypatch.setattr(script, "DRAWS", 1600)
    prior = t0.small_lm()
    prompts = [p for p in t0.PROMPTS for _ in range(400)]
    x, _ = prior.sample(len(prompts), context=prompts, rng=torch.Generator().manual_seed(5))
    g = torch.tensor(t0.reward(prior.items(x)), dtype=torch.float64) / t0.BETA
    g = g.view(len(t0.PROMPTS), -1)
    kl = float((g.logsumexp(1) - math.log(400) - g.mean(1)).mean())
    assert script.distance_from(prior)(prior) == pytest.approx(kl, rel=0.2)


def test_the_clock_stops_while_it_looks():
    script = load("align_vs_trl")

    def burn(law):
        end = time.process_time() + 0.2
        while time.process_time() < end:
            pass
        return distances.pop()

    distances = [0.01, 0.5]
    clock = script.Clock("", burn)
    seen = [clock.look(done, lambda: None) for done in range(1, 2 * script.LOOK + 1)]
    assert seen == [False] * (2 * script.LOOK - 1) + [True]
    assert clock.seconds < 0.1
    assert script.Clock("", burn).seconds == float("inf")
