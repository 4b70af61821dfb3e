"""Steered evidence, and the alarm that compares two estimates of log Z."""

import math

import pytest
import torch

from esscher.align.config import FitConfig
from esscher.align.evaluate import evaluate
from esscher.align.fit import fit
from esscher.align.normaliser import LogZ, disagreement
from esscher.align.steering import steered, steered_target
from esscher.core import Condition, Target
from esscher.errors import ConfigError
from esscher.kit.runs.folder import Run
from tests.align import worlds


def test_the_controller_follows_its_formula_and_is_clipped():
    assert steered(2.0, 1.1, 1.0) == pytest.approx(2.0 / (1 + 0.03 * 0.1))
    assert steered(1.0, 50.0, 1.0) == pytest.approx(1 / 1.006)
    assert steered(1.0, 0.0, 1.0) == pytest.approx(1 / 0.994)
    assert steered(1.0, 3.0, 3.0) == 1.0


def test_the_target_it_ends_at_is_the_posterior_of_that_power():
    x = worlds.outcomes()
    for power in (1.0, 0.3, 2.5):
        found = steered_target(worlds.toy(), power)
        wanted = worlds.log_prior() + power * worlds.toy().log_weight(x)
        torch.testing.assert_close(found.log_density(x), wanted)


@pytest.mark.parametrize("wanted", [0.1, 0.6])
def test_the_divergence_to_the_prior_is_steered_and_the_target_known(wanted):
    config = FitConfig("reverse_kl", steps=400, batch=512, lr=0.05, kl_target=wanted)
    result = fit(worlds.prior(), worlds.toy(), config=config)
    found = evaluate(result.policy, worlds.toy())
    assert found.kl_model_prior.mean == pytest.approx(wanted, rel=0.25)
    late = [row["kl_prior"]["mean"] for row in result.history[200:]]
    assert sum(late) / len(late) == pytest.approx(wanted, rel=0.03)
    power = result.target.evidence_power
    assert (power < 0.95) == (wanted < 0.3)
    # It follows the target that it steers.
    assert evaluate(result.policy, result.target).tvd.mean < 0.08


def test_a_stopped_fit_goes_on_with_the_power_it_had(tmp_path):
    config = FitConfig("reverse_kl", steps=6, batch=64, lr=0.05, kl_target=0.2)
    whole = fit(worlds.prior(), worlds.toy(), config=config)
    run = Run.create(tmp_path, "align", "fit", "steered", config=config, seed=0)

    def stop(done, *_):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(worlds.prior(), worlds.toy(), config=config, run=run, save_every=3, on_step=stop)
    again = fit(worlds.prior(), worlds.toy(), config=config, run=Run.open(run.path, config))
    assert again.target.evidence_power == whole.target.evidence_power != 1.0
    assert torch.equal(again.policy.network.logits, whole.policy.network.logits)


def test_a_moving_target_needs_draws_of_the_policy():
    with pytest.raises(ConfigError, match="kl_target moves the target at every step"):
        FitConfig("forward_kl", kl_target=1.0)
    FitConfig("vargrad", proposal="on_policy", kl_target=1.0)
    with pytest.raises(ConfigError, match="kl_target must be positive"):
        FitConfig("reverse_kl", kl_target=0.0)


def weights(values):
    return LogZ().update(torch.tensor(values, dtype=torch.float64))


def test_estimates_that_may_agree_raise_no_alarm():
    rng = worlds.seeded(0)
    noise = torch.randn(2, 400, generator=rng, dtype=torch.float64)
    assert disagreement(weights(noise[0].tolist()), weights(noise[1].tolist()), 3) is None
    assert disagreement(LogZ(), weights([0.0, 0.1]), 3) is None
    assert disagreement(weights([0.0, 0.1]), LogZ(), 3) is None


def test_no_satisfied_draw_raises_one_as_soon_as_it_is_no_accident():
    known = weights([math.log(0.1)] * 100)
    assert disagreement(weights([-math.inf] * 159), known, 1) is None
    assert "no training draw of 161" in disagreement(weights([-math.inf] * 161), known, 1)


def test_an_estimate_that_is_surely_off_raises_one():
    rng = worlds.seeded(1)
    noise = torch.randn(2, 400, generator=rng, dtype=torch.float64)
    found = disagreement(weights((noise[0] - 1.5).tolist()), weights(noise[1].tolist()), 7)
    assert found.startswith("after 7 steps the training draws say log Z = -0.9")
    assert "miss a part of the target" in found


def test_a_policy_that_has_left_the_target_raises_the_alarm_and_a_sound_fit_does_not():
    target = Target(worlds.prior(), Condition(worlds.has_two))
    narrow = worlds.prior().clone()
    with torch.no_grad():
        narrow.network.logits.mul_(12.0)
    with pytest.warns(UserWarning, match="miss a part of the target"):
        lost = fit(narrow, target, "reverse_kl", steps=2, batch=512)
    assert lost.alarm.startswith("after 1 steps no training draw of 512 is satisfied")
    assert lost.log_z is None
    sound = fit(worlds.prior(), target, "forward_kl", steps=300, batch=256, lr=0.05)
    assert sound.alarm is None
    assert sound.log_z.mean == pytest.approx(target.table().log_z, abs=0.05)
