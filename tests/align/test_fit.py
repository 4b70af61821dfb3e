"""What `fit` promises: where it ends, that it repeats itself, and what it refuses."""

import itertools
import json
import math
import random
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from esscher.align import train
from esscher.align.config import FitConfig
from esscher.align.evaluate import evaluate
from esscher.align.fit import fit
from esscher.align.objectives import OBJECTIVES
from esscher.align.propose import HalfAndHalf
from esscher.align.train import init, step
from esscher.core import Condition, Moments, Reward, Target
from esscher.errors import (
    ConfigError,
    DataError,
    InfeasibleMomentsError,
    NumericsError,
    TargetUnreachableError,
)
from esscher.kit.runs.folder import Run
from tests.align import crash, worlds
from tests.kit.lm.models import every_sequence, small

SHORT = {"steps": 12, "batch": 64}


def logits(policy):
    return policy.module().logits.detach().clone()


def without_time(rows):
    return [{k: v for k, v in row.items() if k != "time"} for row in rows]


@pytest.mark.parametrize("objective", ["forward_kl", "js", "vargrad"])
def test_keeping_the_graphs_changes_only_the_time(objective, monkeypatch):
    target = Target(small(max_new=5), Condition(lambda texts: ["a" in t for t in texts]))
    once = fit(target.prior, target, objective, steps=3, batch=32)
    monkeypatch.setattr(train, "KEPT_GRAPHS", 0)
    twice = fit(target.prior, target, objective, steps=3, batch=32)
    assert once.history == twice.history
    pairs = zip(once.policy.module().parameters(), twice.policy.module().parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


# Where it ends.


@pytest.mark.parametrize(
    ("objective", "bound"),
    [
        ("forward_kl", 2e-3),
        ("js", 2e-3),
        ("reverse_kl", 2e-3),
        ("vargrad", 2e-3),
        pytest.param("sft_posterior", 2e-3, marks=pytest.mark.slow),
    ],
)
def test_default_settings_reach_the_target(objective, bound):
    found = evaluate(fit(worlds.prior(), worlds.toy(), objective).policy, worlds.toy())
    assert found.tvd.mean < bound
    assert found.verdict.word == "close to target"
    assert found.reference == "enumerated"


def test_posterior_samples_get_close():
    """A third of the default's steps and an eighth of its draws."""
    result = fit(worlds.prior(), worlds.toy(), "sft_posterior", steps=200, batch=2048)
    assert evaluate(result.policy, worlds.toy()).tvd.mean < 0.04


def test_rewards_alone_collapse():
    policy = fit(worlds.prior(), worlds.toy(), "rl", steps=300).policy
    found = evaluate(policy, worlds.toy())
    assert found.verdict.word == "collapsed"
    assert found.entropy.mean < 0.4 * found.entropy_target.mean
    assert float(policy.log_prob(worlds.outcomes()).exp() @ worlds.rewards()) > 2.0


@pytest.mark.parametrize(
    ("objective", "proposal"),
    [
        (name, proposal)
        for name, objective in OBJECTIVES.items()
        for proposal in ("on_policy", "prior", "adaptive", "mixture")
        # The objective's own choice is tested above.
        if objective.minimises and not objective.on_policy_only and proposal != objective.proposal
    ],
)
def test_every_allowed_proposal_gets_nearer(objective, proposal):
    target = worlds.toy()
    result = fit(
        worlds.prior(), target, objective, proposal=proposal, steps=120, batch=1024, lr=0.03
    )
    found = evaluate(result.policy, target)
    assert found.tvd.mean < 0.08
    assert evaluate(worlds.prior(), target).tvd.mean > 0.3


def test_half_prior_half_policy():
    policy = worlds.perturbed(3)
    law = HalfAndHalf(worlds.prior(), policy)
    x = worlds.outcomes()
    wanted = 0.5 * (worlds.log_prior().exp() + policy.log_prob(x).exp())
    assert torch.allclose(law.log_prob(x).exp(), wanted)
    drawn, log_q = law.sample(20_001, rng=worlds.seeded(0))
    assert torch.equal(log_q, law.log_prob(drawn))
    seen = torch.bincount(drawn, minlength=364).double()
    big = wanted * 20_001 > 5
    z = (seen - 20_001 * wanted)[big] / (20_001 * wanted)[big].sqrt()
    assert float(z.abs().max()) < 4.5
    assert law.sample(1, rng=worlds.seeded(0)).x.shape == (1,)
    # Weights towards the target are at most twice those from the prior alone.
    bound = math.log(2) + float(worlds.toy().log_weight(x).max())
    assert float((worlds.toy().log_density(x) - law.log_prob(x)).max()) <= bound + 1e-12


def test_each_half_continues_its_own_prompts():
    lm = small(max_new=2)
    law = HalfAndHalf(lm, lm.clone())
    prompts = ["a", "b", "cc", "ab"] * 20
    x, log_q = law.sample(80, context=prompts, rng=worlds.seeded(0))
    # Half of the numbers come from the pass that drew them, in float32.
    torch.testing.assert_close(log_q, lm.log_prob(x, context=prompts), atol=5e-6, rtol=0)


def test_trajectory_balance_learns_the_normaliser():
    config = FitConfig("trajectory_balance", steps=250, batch=256, lr=0.03)
    state = init(worlds.prior().clone(), config)
    for _ in range(250):
        state, _ = step(state, worlds.toy(), config)
    assert state.learnt_log_z[""].value == pytest.approx(worlds.toy().table().log_z, abs=0.02)
    assert worlds.tvd(state.average.log_prob(worlds.outcomes()), worlds.posterior()) < 0.03


def test_draws_of_the_prior_are_not_exchanged_for_others():
    with pytest.raises(ConfigError, match="is about draws of the prior, got proposal='on_policy'"):
        FitConfig("best_of_n_distillation", proposal="on_policy")


def test_hard_evidence_has_an_exact_and_a_floored_target():
    target = worlds.hard()
    forward = fit(worlds.prior(), target, "forward_kl", steps=300, batch=512, lr=0.05)
    log_pi = forward.policy.log_prob(worlds.outcomes())
    allowed = target.log_weight(worlds.outcomes()) == 0
    assert float(log_pi.exp()[allowed].sum()) > 0.97
    assert evaluate(forward.policy, target).kl_target_model.mean < 0.03

    config = FitConfig("reverse_kl", steps=400, batch=512, floor=3.0)
    reverse = fit(worlds.prior(), target, config=config)
    assert all(math.isfinite(row["loss"]) for row in reverse.history)
    floored = worlds.posterior(target.with_floor(3.0))
    assert worlds.tvd(reverse.policy.log_prob(worlds.outcomes()), floored) < 0.02
    # Some of the floored target's mass is outside the evidence, and the fit must show it.
    outside = float(floored.exp()[~allowed].sum())
    assert outside > 0.1
    found = float(reverse.policy.log_prob(worlds.outcomes()).exp()[~allowed].sum())
    assert found == pytest.approx(outside, abs=0.02)


def test_the_normaliser_agrees_with_the_truth():
    found = fit(worlds.prior(), worlds.toy(), "forward_kl", steps=100).log_z
    assert abs(found.mean - worlds.toy().table().log_z) < 4 * found.se
    assert found.se < 0.01
    assert found.n == 100 * 1024


def test_moments_are_fitted_first():
    """Unfitted moments would be an error in every log-weight."""
    target = Target(worlds.prior(), Moments({"two": 0.6}, {"two": worlds.has_two}))
    result = fit(worlds.prior(), target, steps=200, batch=512)
    two = torch.tensor(worlds.has_two(worlds.prior().items(worlds.outcomes()))).double()
    share = float(result.policy.log_prob(worlds.outcomes()).exp() @ two)
    assert share == pytest.approx(0.6, abs=0.03)
    impossible = Target(worlds.prior(), Moments({"two": 1.5}, {"two": worlds.has_two}))
    with pytest.raises(InfeasibleMomentsError, match=r"wanted 1\.5, observed 0 to 1"):
        fit(worlds.prior(), impossible, **SHORT)


# The same again.


@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_one_seed_one_history(objective, no_global_state):
    a, b = (fit(worlds.prior(), worlds.toy(), objective, seed=3, **SHORT) for _ in range(2))
    other = fit(worlds.prior(), worlds.toy(), objective, seed=4, **SHORT)
    assert a.history == b.history
    assert torch.equal(logits(a.policy), logits(b.policy))
    assert a.history != other.history
    assert not torch.equal(logits(a.policy), logits(other.policy))


def test_the_policy_given_in_stays_as_it_was():
    policy, before = worlds.prior().clone(), logits(worlds.prior())
    result = fit(policy, worlds.toy(), **SHORT)
    assert torch.equal(logits(policy), before)
    assert not torch.equal(logits(result.policy), before)
    assert torch.equal(logits(worlds.prior()), before)


def test_watching_and_listening_change_nothing():
    def watch(done, policy):
        evaluate(policy, worlds.toy())
        return {"seen": done}

    plain = fit(worlds.prior(), worlds.toy(), **SHORT)
    steps = []
    watched = fit(
        worlds.prior(), worlds.toy(), **SHORT, watch=watch, watch_every=5,
        on_step=lambda done, total, info, state: steps.append((done, total)),
    )  # fmt: skip
    assert torch.equal(logits(plain.policy), logits(watched.policy))
    assert [row["step"] for row in watched.history if "seen" in row] == [0, 5, 10, 12]
    assert steps == [(i, 12) for i in range(1, 13)]
    assert [{k: v for k, v in row.items() if k != "seen"} for row in watched.history[1:]] == (
        plain.history
    )


def test_the_average_moves_once_per_step():
    """Decay min(0.95, (1 + k) / (10 + k)) after k steps (Polyak), from the prior's weights."""
    seen = []

    def on_step(done, total, info, state):
        seen.append((logits(state.policy), logits(state.average)))

    config = FitConfig(steps=4, batch=64, average=0.95)
    result = fit(worlds.prior(), worlds.toy(), config=config, on_step=on_step)
    mean = logits(worlds.prior())
    for k, (policy, average) in enumerate(seen, 1):
        keep = min(0.95, (1 + k) / (10 + k))
        mean = keep * mean + (1 - keep) * policy
        assert torch.allclose(average, mean, atol=1e-14)
    assert torch.equal(logits(result.policy), seen[-1][1])
    bare = fit(worlds.prior(), worlds.toy(), config=FitConfig(steps=4, batch=64, average=0.0))
    assert torch.equal(logits(bare.policy), seen[-1][0])


def test_the_learning_rate_rises_and_falls():
    config = FitConfig(steps=20, batch=32, lr=0.01, warmup=0.25)
    rates = [row["lr"] for row in fit(worlds.prior(), worlds.toy(), config=config).history]
    assert rates[:5] == pytest.approx([0.002, 0.004, 0.006, 0.008, 0.01])
    assert rates[5] == pytest.approx(0.01)
    assert all(a > b for a, b in itertools.pairwise(rates[5:]))
    assert 0 < rates[-1] < 0.0002


# Proposals.


def test_the_adaptive_proposal_moves_and_helps():
    moved = fit(worlds.prior(), worlds.toy(), "forward_kl", steps=100, batch=512)
    steps = [row["step"] for row in moved.history if row["moved"]]
    assert steps
    assert all(step % 10 == 0 for step in steps)
    share = [row["ess"] for row in moved.history]
    assert sum(share[-10:]) / 10 > 0.85
    assert share[0] < 0.5
    fixed = fit(worlds.prior(), worlds.toy(), "forward_kl", proposal="prior", steps=40, batch=512)
    assert not any(row["moved"] for row in fixed.history)


def test_the_adaptive_proposal_stays_with_a_policy_that_got_worse():
    """With absurd steps the policy moves away from p*; draws must keep coming from the prior."""
    config = FitConfig(
        "forward_kl", steps=40, batch=64, lr=3.0, clip=1e6, warmup=0.0, average=0.0, kl_cap=1e9
    )
    laws = []

    def on_step(done, total, info, state):
        if info.moved:
            laws.append(worlds.prior().clone())
            laws[-1].module().load_state_dict(state.policy.module().state_dict())

    fit(worlds.prior(), worlds.toy(), config=config, on_step=on_step)
    before = evaluate(worlds.prior(), worlds.toy()).kl_target_model.mean
    assert all(evaluate(law, worlds.toy()).kl_target_model.mean < before for law in laws)


@pytest.mark.parametrize("objective", ["reverse_kl", "rl"])
@pytest.mark.parametrize("proposal", ["prior", "adaptive"])
def test_draws_of_another_law_where_they_are_wrong(objective, proposal):
    with pytest.raises(
        ConfigError, match=rf"{objective} needs draws from the policy.*'{proposal}'"
    ):
        fit(worlds.prior(), worlds.toy(), objective, proposal=proposal)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objective": "forwardkl"}, "did you mean 'forward_kl'"),
        ({"objective": "kto"}, "Known: forward_kl"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"batch": 1}, "batch must be at least 2"),
        ({"group": 1}, "group must be at least 2"),
        ({"lr": 0.0}, "lr must be positive and finite, got 0"),
        ({"lr": math.nan}, "lr must be positive and finite, got nan"),
        ({"clip": math.inf}, "clip must be positive"),
        ({"floor": -1.0}, "floor must be positive"),
        ({"kl_cap": 0.0}, "kl_cap must be positive"),
        ({"warmup": 1.0}, r"warmup must lie in \[0, 1\), got 1.0"),
        ({"average": -0.1}, "average must lie in"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ConfigError, match=message):
        FitConfig(**settings)


# Evidence that misbehaves.


def test_a_constant_reward_is_nothing_to_learn():
    target = Target(worlds.prior(), Reward(lambda items: [2.0] * len(items), beta=0.5))
    with pytest.warns(UserWarning, match=r"log-weight 4: .*the target is the prior"):
        result = fit(worlds.prior(), target, **SHORT)
    assert torch.equal(logits(result.policy), logits(worlds.prior()))
    assert result.history == []
    assert "nothing to train" in result.stopped


def test_unreachable_evidence():
    target = Target(worlds.prior(), Condition(lambda items: [False] * len(items), name="mirage"))
    with pytest.raises(TargetUnreachableError) as caught:
        fit(worlds.prior(), target, **SHORT)
    text = str(caught.value)
    assert "'mirage'" in text
    # One-sided Clopper-Pearson: 1 - 0.05^(1/512).
    assert "none of 512" in text
    assert "Z < 0.0058 (log Z < -5.14) with 95 %" in text
    assert "soften the worst term" in text


def test_a_reward_with_a_mind_of_its_own():
    dice = random.Random(0)
    target = Target(worlds.prior(), Reward(lambda items: [dice.random() for _ in items]))
    with pytest.warns(UserWarning, match=r"not deterministic: draw \d+ got log-weight"):
        fit(worlds.prior(), target, steps=1, batch=16)


def broken(value, at=2):
    """A reward that is `value` for outcomes that contain a 2."""
    return lambda items: [value if at in s else 0.1 * len(s) for s in items]


def raising(items):
    raise KeyError("vocabulary")


@pytest.mark.parametrize(
    ("reward", "error", "message"),
    [
        (
            broken(math.nan),
            NumericsError,
            r"Reward 'score': sample \d+ of \d+ got nan.*the item is",
        ),
        (
            broken(math.inf),
            NumericsError,
            r"Reward 'score': sample \d+ of \d+ got inf.*the item is",
        ),
        (raising, DataError, r"Reward 'score': the function raised KeyError: 'vocabulary'"),
        (lambda items: [1.0], DataError, r"Reward 'score': expected \d+ numbers.*got"),
        (lambda items: ["good"] * len(items), DataError, "Reward 'score': expected .* numbers"),
    ],
    ids=["nan", "inf", "raises", "length", "texts"],
)
def test_a_broken_reward_is_named(reward, error, message):
    target = Target(worlds.prior(), Reward(reward, name="score"))
    with pytest.raises(error, match=message):
        fit(worlds.prior(), target, **SHORT)


def test_a_reward_that_breaks_later_is_named_too():
    """No probe can see it: this one fails from its tenth call on."""
    calls = []

    def reward(items):
        calls.append(1)
        return [math.nan if len(calls) >= 10 else 0.1 * len(s) for s in items]

    target = Target(worlds.prior(), Reward(reward, name="late"))
    with pytest.raises(NumericsError, match="Reward 'late': sample 0"):
        fit(worlds.prior(), target, **SHORT)


def test_minus_infinity_rules_out():
    target = Target(worlds.prior(), Reward(broken(-math.inf)))
    found = fit(worlds.prior(), target, steps=150, batch=512, lr=0.05).policy
    gone = torch.tensor(worlds.has_two(worlds.prior().items(worlds.outcomes())))
    assert float(found.log_prob(worlds.outcomes()).exp()[gone].sum()) < 0.03


def test_a_runaway_stops():
    config = FitConfig("rl", steps=300, batch=128, lr=0.3, kl_cap=1.0)
    with pytest.warns(UserWarning, match=r"KL\(π‖p0\) reached .* above kl_cap=1"):
        result = fit(worlds.prior(), worlds.toy(), config=config)
    assert 0 < len(result.history) < 300
    assert "lower the learning rate" in result.stopped
    assert result.history[-1]["kl_prior"]["mean"] > 1.0
    assert all(row["kl_prior"]["mean"] <= 1.0 for row in result.history[:-1])


@pytest.mark.parametrize(
    ("objective", "lr", "divergence"),
    [("forward_kl", 0.5, "kl_target_model"), ("rl", 0.1, "kl_model_target")],
)
def test_a_runaway_keeps_the_best_model(objective, lr, divergence, tmp_path):
    """A rate that first helps and then destroys: kept is a model from before."""
    shape = {"steps": 200, "batch": 512, "average": 0.0, "clip": 1e6, "check_every": 4}
    config = FitConfig(objective, lr=lr, warmup=0.9, kl_cap=1.0, **shape)

    def distance(model):
        return getattr(evaluate(model, worlds.toy()), divergence).mean

    watched = {}
    run = new_run(tmp_path, config)
    with pytest.warns(UserWarning, match=r"the model of step \d+ kept"):
        result = fit(
            worlds.prior(),
            worlds.toy(),
            config=config,
            watch=lambda done, model: watched.update({done: distance(model)}) or {},
            watch_every=1,
            run=run,
        )
    kept = int(result.stopped.split("model of step ")[1].split()[0])
    last = max(watched)
    assert 0 < kept < last
    assert kept % 4 == 0
    assert distance(result.policy) == watched[kept] < 0.8 * watched[last]
    assert watched[kept] < 1.5 * min(watched.values())
    with pytest.warns(UserWarning, match="kept"):
        again = fit(worlds.prior(), worlds.toy(), config=config, run=run)
    assert torch.equal(logits(again.policy), logits(result.policy))
    assert again.stopped == result.stopped


def test_a_tempered_prior_is_something_to_fit_even_under_constant_evidence():
    target = Target(worlds.prior(), Reward(lambda items: [1.0] * len(items)), prior_power=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = fit(worlds.prior(), target, steps=150, batch=512, lr=0.05)
    found = evaluate(result.policy, target)
    assert found.kl_target_model.mean < 0.1 * found.kl_target_prior.mean


# Prompts.


def count_a(texts):
    return [t.count("a") for t in texts]


def test_prompts_reach_the_evidence_in_groups():
    seen = []

    def reward(texts, contexts):
        seen.append(list(contexts))
        return [t.count(c) for t, c in zip(texts, contexts, strict=True)]

    lm = small()
    config = FitConfig("reverse_kl", steps=3, batch=12, group=4)
    result = fit(lm, Target(lm, Reward(reward)), config=config, prompts=["a", "b"])
    assert len(result.history) == 3
    assert {c for batch in seen for c in batch} == {"a", "b"}
    for batch in seen[-3:]:
        assert len(batch) == 12
        assert all(len(set(batch[i : i + 4])) == 1 for i in range(0, 12, 4))


def test_prompts_learn_what_their_prompt_wants():
    lm = small(max_new=3)

    def reward(texts, contexts):
        return [t.count(c) for t, c in zip(texts, contexts, strict=True)]

    target = Target(lm, Reward(reward, beta=0.5))
    prompts = ["a", "b"]
    result = fit(lm, target, "reverse_kl", steps=30, batch=64, lr=0.01, prompts=prompts)

    def mean(model):
        context = ["a", "b"] * 256
        x = model.sample(512, context=context, rng=worlds.seeded(0)).x
        return sum(reward(model.items(x), context)) / 512

    assert mean(result.policy) > mean(lm) + 0.3


def test_no_prompts_at_all():
    with pytest.raises(ConfigError, match="prompts is empty; pass None"):
        fit(worlds.prior(), worlds.toy(), prompts=[])


# Runs.


def new_run(folder, config):
    return Run.create(folder, "align", "fit", "test", config=config, seed=config.seed)


def test_a_run_keeps_every_row(tmp_path):
    config = FitConfig(steps=9, batch=32)
    run = new_run(tmp_path, config)
    result = fit(worlds.prior(), worlds.toy(), config=config, run=run, save_every=4)
    rows = run.metrics()
    assert [row["step"] for row in rows] == list(range(1, 10))
    for row, own in zip(rows, result.history, strict=True):
        assert row["loss"] == own["loss"]
        assert row["log_z"] == own["log_z"]["mean"]
        assert row["log_z_se"] == own["log_z"]["se"]
    assert json.dumps(result.history, allow_nan=False)


class CrashError(Exception):
    pass


@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_a_resumed_run_is_an_uninterrupted_one(objective, tmp_path):
    """Stopped at step 11 with checkpoints every 4: steps 9 to 11 are done again."""
    config = FitConfig(objective, steps=20, batch=32, check_every=5, lr=0.05)
    whole_run = new_run(tmp_path / "whole", config)
    whole = fit(worlds.prior(), worlds.toy(), config=config, run=whole_run, save_every=4)

    def stop(done, total, info, state):
        if done == 11:
            raise CrashError

    run = new_run(tmp_path / "broken", config)
    with pytest.raises(CrashError):
        fit(worlds.prior(), worlds.toy(), config=config, run=run, save_every=4, on_step=stop)
    assert [row["step"] for row in run.metrics()] == list(range(1, 12))
    run = Run.open(run.path, config)
    steps = []
    resumed = fit(
        worlds.prior(), worlds.toy(), config=config, run=run, save_every=4,
        on_step=lambda done, total, info, state: steps.append(done),
    )  # fmt: skip
    assert steps == list(range(9, 21))
    assert torch.equal(logits(resumed.policy), logits(whole.policy))
    assert resumed.log_z == whole.log_z
    assert without_time(run.metrics()) == without_time(whole_run.metrics())
    assert resumed.history == whole.history
    # Nothing is left to do, and asking again changes nothing.
    again = fit(worlds.prior(), worlds.toy(), config=config, run=Run.open(run.path, config))
    assert torch.equal(logits(again.policy), logits(whole.policy))
    assert again.history == whole.history


def test_a_resumed_run_keeps_what_was_watched(tmp_path):
    config = FitConfig(steps=6, batch=32)

    def watch(done, policy):
        found = evaluate(policy, worlds.toy())
        return {"tvd": found.tvd, "satisfied": found.satisfied}

    def stop(done, total, info, state):
        if done == 4:
            raise CrashError

    whole = fit(worlds.prior(), worlds.toy(), config=config, watch=watch, watch_every=2)
    run = new_run(tmp_path, config)
    settings = {"config": config, "watch": watch, "watch_every": 2, "save_every": 3}
    with pytest.raises(CrashError):
        fit(worlds.prior(), worlds.toy(), run=run, on_step=stop, **settings)
    resumed = fit(worlds.prior(), worlds.toy(), run=Run.open(run.path), **settings)
    assert resumed.history == whole.history


@pytest.mark.parametrize("watched", [False, True], ids=["bare", "watched"])
def test_a_run_that_stops_before_its_first_checkpoint(watched, tmp_path):
    """Nothing to go back to but the start: the rows logged since must not stay."""
    config = FitConfig(steps=6, batch=32)
    settings = {"config": config, "save_every": 5}
    if watched:
        settings |= {"watch": lambda done, policy: {"seen": done}, "watch_every": 3}

    def stop(done, total, info, state):
        if done == 2:
            raise CrashError

    whole = fit(worlds.prior(), worlds.toy(), **settings)
    run = new_run(tmp_path, config)
    with pytest.raises(CrashError):
        fit(worlds.prior(), worlds.toy(), run=run, on_step=stop, **settings)
    resumed = fit(worlds.prior(), worlds.toy(), run=Run.open(run.path), **settings)
    assert resumed.history == whole.history
    assert [row["step"] for row in run.metrics()] == [row["step"] for row in whole.history]


def reference(tmp_path):
    (tmp_path / "whole").mkdir()
    return crash.go(tmp_path / "whole")


def killed(folder, after):
    """Start the fit in a process of its own and kill it once it reported a step."""
    folder.mkdir()
    command = [sys.executable, "-m", "tests.align.crash", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True,
                          cwd=Path(__file__).parents[2]) as process:  # fmt: skip
        for line in process.stdout:
            if int(line) >= after:
                break
        process.kill()
    return process.returncode


@pytest.mark.parametrize(
    "trial", [0, *(pytest.param(i, marks=pytest.mark.slow) for i in range(1, 6))]
)
def test_kill_9_and_resume(trial, tmp_path):
    whole, whole_run = reference(tmp_path)
    after = random.Random(trial).randrange(3, 55)
    assert killed(tmp_path / "killed", after) == -9
    with warnings.catch_warnings():
        # A kill inside a write leaves a damaged newest checkpoint, which is reported and skipped.
        warnings.simplefilter("ignore", RuntimeWarning)
        resumed, run = crash.go(tmp_path / "killed")
    assert torch.equal(logits(resumed.policy), logits(whole.policy))
    assert without_time(run.metrics()) == without_time(whole_run.metrics())
    assert resumed.log_z == whole.log_z


def uneven(texts, contexts):
    return [
        t.startswith("a") if c == "b" else t != "" for t, c in zip(texts, contexts, strict=True)
    ]


@pytest.mark.parametrize("name", ["forward_kl", "js", "trajectory_balance"])
def test_every_prompt_has_a_normaliser_of_its_own(name):
    lm = small(max_new=2)
    target = Target(lm, Condition(uneven))
    everything = every_sequence(4, 2)
    exact = {
        c: float(target.log_density(everything, [c] * len(everything)).logsumexp(0)) for c in "ab"
    }
    assert exact["a"] - exact["b"] > 1.5
    config = FitConfig(name, steps=30, batch=256, lr=0.01, credit="sequence")
    state = init(lm.clone(), config)
    for _ in range(30):
        state, info = step(state, target, config, prompts=["a", "b"])
    assert info.unseen_contexts == 0
    for c in "ab":
        assert state.context_log_z[c].value == pytest.approx(exact[c], abs=0.25)
    again = init(lm.clone(), config)
    again.load_state_dict(state.state_dict())
    assert again.context_log_z == state.context_log_z
    assert again.learnt_log_z == state.learnt_log_z
    assert set(state.learnt_log_z) == ({"a", "b"} if name == "trajectory_balance" else set())


def test_the_gradient_of_forward_kl_weighs_every_prompt_alike():
    """Against the sum over all sequences, from many draws; a pooled normaliser points elsewhere."""
    lm = small(max_new=2)
    target = Target(lm, Condition(uneven))
    everything = every_sequence(4, 2)
    policy = lm.clone()
    wanted = 0.0
    for c in "ab":
        context = [c] * len(everything)
        log_p = target.log_density(everything, context)
        share = (log_p - log_p.logsumexp(0)).exp()
        for rows, log_pi in policy.log_prob_chunks(everything, context=context):
            wanted = wanted - 0.5 * (share[rows] * log_pi).sum()
    exact = torch.cat(
        [g.flatten() for g in torch.autograd.grad(wanted, list(policy.module().parameters()))]
    )
    config = FitConfig("forward_kl", steps=1, batch=20_000, lr=1e-9, credit="sequence", clip=1e9)
    state, _ = step(init(lm.clone(), config), target, config, prompts=["a", "b"])
    found = torch.cat([p.grad.flatten() for p in state.policy.module().parameters()])
    assert float((found - exact).norm() / exact.norm()) < 0.15


def test_prompts_without_a_satisfied_draw_are_counted():
    lm = small(max_new=2)
    target = Target(lm, Condition(lambda texts, contexts: [c != "a" for c in contexts]))
    config = FitConfig("forward_kl", steps=2, batch=64, credit="sequence")
    result = fit(lm, target, config=config, prompts=["a", "b"])
    assert [row["unseen_contexts"] for row in result.history] == [1, 1]
