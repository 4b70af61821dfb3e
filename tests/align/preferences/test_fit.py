"""Fits to pairs on every kind of model: what they learn, report, stop at, and resume."""

import itertools
import math

import pytest
import torch

from esscher.align.preferences import (
    PREFERENCE_LOSSES,
    PreferenceConfig,
    Preferences,
    RewardConfig,
    fit_preferences,
    fit_reward_model,
)
from esscher.align.preferences.loop import train
from esscher.align.preferences.pairs import prepare_pairs
from esscher.align.preferences.train import Task, init, step
from esscher.core import DIVERGENCES
from esscher.core import exact as exactly
from esscher.errors import ConfigError, NumericsError
from esscher.kit.runs.folder import Run
from tests.align import worlds
from tests.align.preferences import exact
from tests.align.preferences.texts import comparisons
from tests.kit.lm.models import build

METHODS = [*PREFERENCE_LOSSES, "reward_model"]
MODELS = ["small", "gpt2"]


def config(method, **settings):
    given = {"steps": 12, "batch": 16, "lr": 0.01, "held_out": 0.25, "check_every": 4, **settings}
    if method == "reward_model":
        return RewardConfig(**given)
    return PreferenceConfig(objective=method, **{"draws": 16, "beta": 0.5, **given})


def fitted(method, law, pairs, run=None, **settings):
    more = settings.pop("save_every", 25)
    chosen = config(method, **settings)
    fit = fit_reward_model if method == "reward_model" else fit_preferences
    return fit(law, pairs, config=chosen, run=run, save_every=more)


def module(result):
    return (result.policy if hasattr(result, "policy") else result.model).module()


def same(a, b):
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_what_is_preferred(method, kind, no_global_state):
    law = build(kind, max_new=5)
    before = law.clone()
    pairs = comparisons(200, noisy=False, prompts=True)
    draws = {} if method == "reward_model" else {"draws": 256}
    result = fitted(method, law, pairs, steps=40, lr=0.003, **draws)
    first, last = result.history[0], result.history[-1]
    assert first["held_out_accuracy"]["mean"] == 0.5
    assert first["held_out_margin"]["mean"] == 0.0
    assert result.fit.accuracy.mean > 0.75
    assert last["held_out_loss"]["mean"] < first["held_out_loss"]["mean"] - 0.02
    assert last["held_out_margin"]["mean"] > 3 * last["held_out_margin"]["se"]
    assert (result.fit.log_loss is None) == (method == "ipo")
    assert same(law.module(), before.module())
    if method != "reward_model":
        assert first["kl_prior"]["mean"] == pytest.approx(0.0, abs=1e-5)
        assert result.kl_prior.mean > 2 * result.kl_prior.se > 0
        assert result.kl_prior.n == 256


def test_a_fit_on_texts_of_an_enumerable_model_needs_no_network():
    law = worlds.prior(3)
    rows = [(" ".join(map(str, s)), s.count(2)) for s in itertools.product(range(3), repeat=3)]
    pairs = [(x, y) for (x, a), (y, b) in itertools.product(rows, rows) if a > b]
    given = Preferences(None, *(tuple(column) for column in zip(*pairs, strict=True)))
    assert fitted("dpo", law, given, steps=60, lr=0.1).fit.accuracy_low > 0.9


def test_the_estimate_of_the_distance_to_the_prior_covers_the_exact_one():
    pairs = exact.both(exact.every_pair(3))
    result = fit_preferences(
        worlds.prior(3), pairs, config=exact.config(beta=0.5, steps=60, draws=4000)
    )
    law = worlds.prior(3)
    log_pi = result.policy.log_prob(law.enumerate())
    wanted = float(exactly(DIVERGENCES["reverse_kl"], log_pi, exact.log_prior(3)))
    assert wanted > 0.1
    assert abs(result.kl_prior.mean - wanted) < 4 * result.kl_prior.se
    assert result.kl_prior.se < 0.05 * wanted


def test_a_history_row_belongs_to_every_step_and_looks_to_some():
    result = fitted("dpo", build("small", max_new=5), comparisons(80), steps=10)
    assert [row["step"] for row in result.history] == list(range(11))
    looked = [row["step"] for row in result.history if "held_out_loss" in row]
    assert looked == [0, 4, 8, 10]
    rates = [row["lr"] for row in result.history[1:]]
    assert rates == sorted(rates)  # ten steps of warm-up


def test_the_result_is_the_model_of_the_lowest_held_out_loss():
    law = build("small", max_new=5)
    settings = {"steps": 60, "lr": 0.05, "check_every": 2, "patience": 3, "batch": 8, "beta": 2.0}
    result = fitted("dpo", law, comparisons(60), **settings)
    looks = {r["step"]: r["held_out_loss"]["mean"] for r in result.history if "held_out_loss" in r}
    assert result.stopped is not None
    assert f"at step {result.step}" in result.stopped
    assert looks[result.step] == min(looks.values())
    assert max(looks) == result.step + 3 * 2 < 60
    assert result.fit.log_loss.mean == pytest.approx(looks[result.step], rel=1e-5)
    patient = fitted("dpo", law, comparisons(60), **settings | {"patience": 100})
    assert patient.stopped is None
    assert patient.history[-1]["step"] == 60
    assert patient.step == result.step
    assert same(module(patient), module(result))


@pytest.mark.parametrize("method", ["dpo", "reward_model"])
def test_half_the_steps_resumed_are_all_the_steps(method, tmp_path, no_global_state):
    law, pairs = build("small", max_new=5), comparisons(80)
    whole = fitted(method, law, pairs)
    run = Run.create(tmp_path, "align", "prefer", "x", config=config(method), seed=0)
    seen = []

    def stop(done, total, row):
        seen.append(done)
        if done == 9:
            raise KeyboardInterrupt

    fit = fit_reward_model if method == "reward_model" else fit_preferences
    with pytest.raises(KeyboardInterrupt):
        fit(law, pairs, config=config(method), run=run, save_every=4, on_step=stop)
    again = fitted(method, law, pairs, Run(run.path), save_every=4)
    assert again.history == whole.history
    assert again.fit == whole.fit
    assert same(module(again), module(whole))
    assert [row["step"] for row in run.metrics()] == list(range(13))


def test_a_run_killed_before_its_first_step_starts_over(tmp_path):
    law, pairs = build("small", max_new=5), comparisons(80)
    run = Run.create(tmp_path, "align", "prefer", "x", config=config("dpo"), seed=0)
    split = prepare_pairs(law, pairs, config("dpo"))
    run.save(0, init(task_of(law)).state_dict())
    run.log(0, held_out_loss=0.5)
    result = fitted("dpo", law, split, run)
    assert [row["step"] for row in run.metrics()] == list(range(13))
    assert same(module(result), module(fitted("dpo", law, pairs)))


def task_of(law, losses=None, lr=0.01):
    chosen = losses or (lambda a, b, pairs: b - a)
    return Task(law.module(), law.log_prob_chunks, law.graph_bytes, chosen, lr)


def test_pairs_are_shuffled_anew_every_time_round_and_all_come():
    law = build("small", max_new=5)
    split = prepare_pairs(law, comparisons(64), config("dpo"))
    seen = []

    def losses(chosen, rejected, pairs):
        seen.append(pairs.chosen.lists())
        return rejected - chosen

    task = task_of(law.clone(), losses)
    state = init(task)
    for _ in range(6):
        state, _ = step(state, task, split.train, config("dpo"))
    rounds = [list(itertools.chain(*part)) for part in (seen[:3], seen[3:])]
    assert [sorted(r) for r in rounds] == [sorted(split.train.chosen.lists())] * 2
    assert rounds[0] != rounds[1]


def test_scoring_twice_gives_the_gradient_of_scoring_once(monkeypatch):
    law = build("small", max_new=5)
    split = prepare_pairs(law, comparisons(80), config("dpo"))
    weights = []
    for kept in (2**40, 0):
        monkeypatch.setattr("esscher.align.preferences.train.KEPT_GRAPHS", kept)
        weights.append(module(fitted("dpo", law, split)).state_dict())
    for a, b in zip(*(w.values() for w in weights), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_pairs_count_by_their_weight():
    law = worlds.prior(3)
    pairs = exact.every_pair(3)
    doubled = exact.every_pair(3, weight=2 * pairs.weight)
    one, two = (
        fit_preferences(law, exact.both(p), config=exact.config(beta=0.5, steps=5))
        for p in (pairs, doubled)
    )
    last = [r.history[-1]["held_out_loss"]["mean"] for r in (one, two)]
    assert last[0] == pytest.approx(last[1], rel=1e-12)


@pytest.mark.parametrize(
    ("batch", "words"),
    [(True, "at step 0 are not both finite; lower the"), (False, "pair 0 is inf after 0 steps")],
)
def test_a_loss_that_is_not_finite_stops_the_fit(batch, words):
    law = build("small", max_new=5)
    split = prepare_pairs(law, comparisons(80), config("dpo"))

    def losses(chosen, rejected, pairs):
        return (rejected - chosen).exp() * (math.inf if (len(pairs) == 16) == batch else 1.0)

    with pytest.raises(NumericsError, match=words):
        train(task_of(law.clone(), losses), split, config("dpo"), lambda *_: {})


def test_a_look_that_is_no_better_counts_against_patience():
    law = build("small", max_new=5)
    state = init(task_of(law))
    state.look(1.0, 2)
    state.look(1.0, 2)
    assert state.stopped is None
    state.look(1.5, 2)
    assert "lowest, 1, at step 0" in state.stopped


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"beta": 0.0}, "beta must be positive and finite, got 0"),
        ({"beta": -1.0}, "beta must be positive"),
        ({"beta": math.inf}, "beta must be positive"),
        ({"objective": "dop"}, "did you mean 'dpo'"),
        ({"objective": "cdpo", "smoothing": 0.5}, r"smoothing must lie in \[0, 0.5\), got 0.5"),
        ({"objective": "cdpo", "smoothing": -0.1}, r"smoothing must lie in \[0, 0.5\)"),
        ({"objective": "dpo", "smoothing": 0.1}, "smoothing does not belong to dpo"),
        ({"objective": "ipo", "divergence": "js"}, "divergence does not belong to ipo"),
        ({"objective": "f_dpo", "divergence": "tv"}, "slope is -inf at π = 0, which tv"),
        ({"objective": "f_dpo", "divergence": "chi2_reverse"}, "which chi2_reverse has not"),
        ({"objective": "f_dpo", "divergence": "alpha:2"}, "which alpha:2 has not"),
        ({"objective": "f_dpo", "divergence": "jss"}, "unknown divergence"),
        ({"held_out": 0.0}, r"held_out must lie in \(0, 1\)"),
        ({"overlong": "cut"}, "overlong must be"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"patience": 0}, "patience must be at least 1"),
        ({"lr": -1.0}, "lr must be positive"),
        ({"draws": 1}, "draws must be at least 2"),
    ],
)
def test_settings_out_of_range_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        PreferenceConfig(**settings)


def test_a_reward_model_refuses_a_negative_penalty():
    with pytest.raises(ConfigError, match="l2 must be finite and at least 0, got -1"):
        RewardConfig(l2=-1.0)


def test_settings_left_out_are_those_the_docs_name():
    assert PreferenceConfig(objective="cdpo").settings() == {"beta": 0.1, "smoothing": 0.1}
    assert PreferenceConfig(objective="f_dpo").settings() == {"beta": 0.1, "divergence": "js"}
    zero = PreferenceConfig(objective="cdpo", smoothing=0.0)
    assert zero.settings()["smoothing"] == 0.0
