import math

import pytest
import torch

from esscher.core import Condition, Moments, Reward, Table, Target
from esscher.errors import ConfigError, DataError, InfeasibleError, NumericsError
from tests.worlds import (
    BETA,
    SEQUENCES,
    random_law,
    seeded,
    toy_posterior,
    toy_prior,
    toy_reward,
    toy_target,
)


def has_c(texts):
    return ["c" in t for t in texts]


ALL = torch.arange(len(SEQUENCES))


def test_posterior_is_bayes_by_hand():
    tilts = [math.exp(r / BETA) for r in toy_reward(SEQUENCES)]
    weights = toy_prior().probs * torch.tensor(tilts, dtype=torch.float64)
    assert torch.allclose(toy_posterior().probs, weights / weights.sum(), rtol=1e-12)
    assert toy_posterior().log_z == pytest.approx(float(weights.sum().log()), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_objective_is_beta_log_z_minus_beta_kl(seed):
    pi = Table(random_law(len(SEQUENCES), seed, 2.0))
    reward = torch.tensor(toy_reward(SEQUENCES), dtype=torch.float64)
    objective = pi.expectation(reward) - BETA * pi.kl(toy_prior())
    posterior = toy_posterior()
    assert abs(objective - BETA * (posterior.log_z - pi.kl(posterior))) < 1e-10


def test_the_posterior_attains_beta_log_z():
    posterior = toy_posterior()
    reward = torch.tensor(toy_reward(SEQUENCES), dtype=torch.float64)
    value = posterior.expectation(reward) - BETA * posterior.kl(toy_prior())
    assert abs(value - BETA * posterior.log_z) < 1e-10


def test_hard_predicate_identities():
    target = Target(toy_prior(), Condition(has_c))
    posterior = target.table()
    z = float(toy_prior().probs[torch.tensor(has_c(SEQUENCES))].sum())
    assert posterior.log_z == pytest.approx(math.log(z), abs=1e-12)
    assert posterior.kl(toy_prior()) == pytest.approx(-math.log(z), abs=1e-12)
    tvd = 0.5 * float((posterior.probs - toy_prior().probs).abs().sum())
    assert tvd == pytest.approx(1 - z, abs=1e-12)


def test_terms_sum_to_the_weight_and_names_are_unique():
    target = Target(
        toy_prior(), Reward(toy_reward, BETA), Reward(toy_reward, 2.0), Condition(has_c)
    )
    terms = target.terms(ALL)
    assert list(terms) == ["toy_reward", "toy_reward_2", "has_c"]
    assert torch.equal(sum(terms.values()), target.log_weight(ALL))


def test_known_prior_log_prob_is_used():
    shifted = toy_prior().log_probs + 1.0
    direct = toy_target().log_density(ALL)
    given = toy_target().log_density(ALL, prior_log_prob=shifted)
    assert torch.allclose(given, direct + 1.0, atol=1e-12)


def test_tempered_is_a_path_from_prior_to_target():
    target = Target(toy_prior(), Reward(toy_reward, BETA), Condition(has_c))
    start, half, end = (target.tempered(a).log_weight(ALL) for a in (0.0, 0.5, 1.0))
    assert torch.equal(start, torch.zeros(len(ALL), dtype=torch.float64))
    assert torch.equal(end, target.log_weight(ALL))
    off = ~torch.tensor(has_c(SEQUENCES))
    assert bool((half[off] == -torch.inf).all())
    assert torch.allclose(half[~off], 0.5 * end[~off])
    assert target.tempered(0.5).tempered(0.5).evidence_power == 0.25


def test_floor_is_the_largest_of_weight_and_minus_nats():
    target = Target(toy_prior(), Condition(has_c), Reward(toy_reward, BETA))
    expected = target.log_weight(ALL).clamp(min=-3.0)
    assert torch.allclose(target.with_floor(3.0).log_weight(ALL), expected)
    tempered = target.tempered(0.5)
    expected = tempered.log_weight(ALL).clamp(min=-3.0)
    assert torch.allclose(tempered.with_floor(3.0).log_weight(ALL), expected)
    # Tempering a floored target stays continuous at 0, where an absolute floor would jump.
    assert float(target.with_floor(3.0).tempered(1e-9).log_weight(ALL).abs().max()) < 1e-7


def test_prior_power_tempers_the_prior():
    target = Target(toy_prior(), prior_power=0.5)
    assert torch.allclose(target.log_density(ALL), 0.5 * toy_prior().log_probs)
    gap = Table(torch.tensor([0.0, -torch.inf]))
    assert Target(gap, prior_power=0.0).log_density(torch.arange(2)).tolist() == [0.0, 0.0]


def test_prior_without_mass_stays_without():
    gap = Table(torch.tensor([0.0, -torch.inf, 0.0]))
    target = Target(gap, Condition(lambda i: [False, False, True]), Reward(lambda i: [5.0] * 3))
    assert target.table().probs.tolist() == [0.0, 0.0, 1.0]


def test_given_leaves_the_original_alone():
    more = toy_target().given(Condition(has_c))
    assert toy_target().names == ("toy_reward",)
    assert more.names == ("toy_reward", "has_c")


def test_constant_reward_changes_nothing():
    target = Target(toy_prior(), Reward(lambda items: [3.0] * len(items), beta=0.1))
    assert torch.allclose(target.table().log_probs, toy_prior().log_probs, atol=1e-12)


def test_fit_moments_on_the_target():
    def is_long(texts):
        return [float(len(t) >= 3) for t in texts]

    moments = Moments({has_c: 0.3, is_long: 0.6})
    target = Target(toy_prior(), Reward(toy_reward, BETA), moments)
    fitted = target.fit_moments(200_000, rng=seeded(0))
    posterior = fitted.table()
    for feature, wanted in ((has_c, 0.3), (is_long, 0.6)):
        values = torch.tensor(feature(SEQUENCES), dtype=torch.float64)
        assert posterior.expectation(values) == pytest.approx(wanted, abs=0.01)
    assert fitted.moment_fit.names == ("has_c", "is_long")
    assert target.moment_fit is None
    assert fitted.tempered(0.5).moment_fit is fitted.moment_fit


def test_fit_moments_uses_the_proposal_weights():
    uniform = Table(torch.zeros(len(SEQUENCES)), SEQUENCES)
    target = Target(toy_prior(), Moments({has_c: 0.3}))
    fitted = target.fit_moments(200_000, rng=seeded(0), proposal=uniform)
    values = torch.tensor(has_c(SEQUENCES), dtype=torch.float64)
    assert fitted.table().expectation(values) == pytest.approx(0.3, abs=0.01)


def test_two_moments_are_fitted_jointly_and_handed_back():
    def is_long(texts):
        return [float(len(t) >= 3) for t in texts]

    target = Target(toy_prior(), Moments({has_c: 1.0}), Moments({is_long: 0.4, has_c: 1.0}))
    fitted = target.fit_moments(50_000, rng=seeded(0))
    assert fitted.evidence[0].hard == {"has_c": 1.0}
    assert fitted.evidence[1].hard == {"has_c": 1.0}
    posterior = fitted.table()
    assert posterior.expectation(torch.tensor(has_c(SEQUENCES)).double()) == pytest.approx(1.0)
    assert posterior.expectation(torch.tensor(is_long(SEQUENCES))) == pytest.approx(0.4, abs=0.02)


def test_contradiction_names_the_terms():
    target = Target(toy_prior(), Condition(lambda items: [0] * len(items), name="never"))
    with pytest.raises(InfeasibleError, match="'never' rules out 364 of 364"):
        target.table()


def test_nan_from_own_evidence_is_named():
    class Broken:
        name = "own"

        def log_weight(self, items, contexts):
            return torch.tensor([0.0, torch.nan])

    with pytest.raises(NumericsError, match=r"evidence 'own': sample 1 of 2 got nan"):
        Target(Table(torch.zeros(2)), Broken()).log_density(torch.arange(2))


def test_nan_prior_is_named():
    known = torch.tensor([0.0, torch.nan])
    with pytest.raises(NumericsError, match=r"the prior: sample 1 of 2 got nan"):
        Target(Table(torch.zeros(2))).log_density(torch.arange(2), prior_log_prob=known)


@pytest.mark.parametrize("key", ["prior_power", "evidence_power", "floor"])
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_bad_settings(key, value):
    with pytest.raises(ConfigError, match=key):
        Target(toy_prior(), **{key: value})


def test_bad_use():
    with pytest.raises(DataError, match="wrap a function in Reward"):
        Target(toy_prior(), toy_reward)
    with pytest.raises(ConfigError, match=r"\[0, 1\], got 2"):
        toy_target().tempered(2)
    with pytest.raises(ConfigError, match="no Moments"):
        toy_target().fit_moments(rng=seeded(0))
    with pytest.raises(ConfigError, match="before tempered"):
        Target(toy_prior(), Moments({has_c: 0.5}), floor=3.0).fit_moments(rng=seeded(0))

    class Sampler:
        def sample(self, n, *, context=None, rng): ...

        def log_prob(self, x, *, context=None): ...

    with pytest.raises(ConfigError, match="no enumerate"):
        Target(Sampler()).table()
