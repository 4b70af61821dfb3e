"""What a check says of a target, against the exact values."""

import pytest
import torch

from esscher.align.check import check_target
from esscher.core import Condition, Moments, Reward, Target
from esscher.errors import ConfigError, TargetUnreachableError
from tests.align import worlds
from tests.kit.lm.models import small


def prior_table():
    return Target(worlds.prior(), Reward(lambda items: [0.0] * len(items))).table()


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_the_numbers_cover_the_exact_ones(kind):
    target = worlds.toy() if kind == "soft" else worlds.hard()
    exact = target.table()
    wanted = {"log_z": exact.log_z, "kl_target_prior": exact.kl(prior_table())}
    gaps = {name: [] for name in wanted}
    for seed in range(40):
        found = check_target(target, 1000, seed=seed)
        for name, value in wanted.items():
            estimate = getattr(found, name)
            gaps[name].append((estimate.mean - value) / estimate.se)
    for values in gaps.values():
        z = torch.tensor(values)
        assert abs(float(z.mean())) < 0.6
        assert 0.6 < float(z.std()) < 1.5


def test_hard_evidence_has_an_exact_interval_and_can_be_rejected_from():
    found = check_target(worlds.hard(), 2000)
    share = float(worlds.log_prior().exp()[worlds.hard().log_weight(worlds.outcomes()) == 0].sum())
    low, high = found.interval
    assert low < share < high
    assert found.ess == pytest.approx(found.satisfied.mean)
    assert found.pareto_k is None
    assert found.terms == {
        "has_two": {"ruled_out": pytest.approx(1 - found.satisfied.mean), "log_weight": 0.0}
    }
    assert found.advice == [
        f"rejection from the prior gives exact draws, {found.satisfied.mean:.0%} of which are "
        "accepted"
    ]


def test_each_term_answers_for_itself():
    target = Target(
        worlds.prior(),
        Condition(worlds.has_two),
        Reward(lambda items: [-len(i) for i in items], name="brevity"),
    )
    found = check_target(target, 500)
    assert found.terms["has_two"]["ruled_out"] > 0.5
    assert found.terms["brevity"]["ruled_out"] == 0.0
    assert found.terms["brevity"]["log_weight"] < -1


def test_rare_evidence_and_heavy_weights_are_pointed_out():
    rare = Target(worlds.prior(), Condition(lambda items: [i[:2] == [2, 2] for i in items]))
    assert any("twisted_smc" in line for line in check_target(rare, 4000).advice)
    steep = Target(worlds.prior(), Reward(worlds.toy_reward, beta=0.05))
    found = check_target(steep, 4000)
    assert found.ess < 0.01
    assert any("temper the evidence" in line for line in found.advice)
    easy = Target(worlds.prior(), Reward(worlds.toy_reward, beta=50.0))
    assert check_target(easy, 500).advice == ["the prior's draws cover the target"]


def test_fitted_moments_are_shown():
    target = Target(worlds.prior(), Moments({worlds.has_two: 0.5}))
    target = target.fit_moments(2000, rng=worlds.seeded(0))
    found = check_target(target, 500)
    row = found.moments["has_two"]
    assert row["wanted"] == 0.5
    assert row["reached"] == pytest.approx(0.5, abs=1e-8)
    assert row["coefficient"] > 0


def test_prompts_that_never_succeed_are_named():
    target = Target(small(max_new=3), Condition(lambda items, prompts: [p != "a" for p in prompts]))
    found = check_target(target, 200, prompts=["a", "b", "a", "c"])
    assert found.unseen_prompts == ["a"]
    assert any("1 prompts" in line and "'a'" in line for line in found.advice)
    assert check_target(target, 200, prompts=["b"]).unseen_prompts == []


def test_what_cannot_be_checked():
    never = Target(worlds.prior(), Condition(lambda items: [False] * len(items), name="never"))
    with pytest.raises(TargetUnreachableError, match=r"Z < .*'never' rules out"):
        check_target(never, 100)
    with pytest.raises(ConfigError, match="at least 25 draws, got 3"):
        check_target(worlds.toy(), 3)
