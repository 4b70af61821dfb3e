"""Fair caps against quadrature, and rules against the best that is possible."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.integrate import quad

from esscher.errors import ConfigError, DataError
from esscher.kit.stopping import (
    BestOfN,
    EmpiricalLaw,
    ExponentialLaw,
    KnownLaw,
    NormalLaw,
    discrete_cap,
    exponential_cap,
    normal_cap,
)

COSTS = (1e-12, 1e-3, 0.1, 0.9, 3.0)


def excess(law, g):
    """E(X - g)⁺ by integrating the tail."""
    start = max(g, law.support()[0])
    middle = max(start, law.ppf(0.5))
    parts = [quad(law.sf, a, b, epsabs=0, epsrel=1e-11)[0]
             for a, b in ((start, middle), (middle, middle + 8), (middle + 8, np.inf))]  # fmt: skip
    return start - g + sum(parts)


@pytest.mark.parametrize("cost", COSTS)
def test_exponential_and_normal_caps_solve_their_equation(cost):
    g = exponential_cap(1.7, cost)
    assert excess(stats.expon(scale=1.7), g) == pytest.approx(cost, rel=1e-8)
    g = normal_cap(0.4, 2.0, cost)
    assert excess(stats.norm(0.4, 2.0), g) == pytest.approx(cost, rel=1e-8)


def test_a_tiny_cost_does_not_underflow():
    g = normal_cap(0.0, 1.0, 1e-300)
    # E(X - g)⁺ ~ φ(g) / g² far out.
    assert -g * g / 2 - 2 * math.log(g) == pytest.approx(math.log(1e-300 * 2.5066), abs=0.01)


@given(
    st.lists(st.floats(-5, 5), min_size=1, max_size=6),
    st.lists(st.integers(0, 9), min_size=6, max_size=6),
    st.floats(1e-6, 20),
)
def test_the_discrete_cap_solves_its_equation(values, weights, cost):
    v = np.array(values)
    p = np.array(weights[: len(v)], float) + (sum(weights[: len(v)]) == 0)
    p /= p.sum()
    g = discrete_cap(v, p, cost)
    assert float(p @ np.maximum(v - g, 0)) == pytest.approx(cost, abs=1e-9)


def test_ruled_out_draws_are_part_of_a_law():
    law = KnownLaw([-math.inf, 2.0], [0.75, 0.25])
    assert BestOfN(0.1, law).fair_cap([]) == pytest.approx(2.0 - 0.1 / 0.25)
    assert not BestOfN(0.1, law).should_stop([-math.inf])
    assert BestOfN(0.1, law).should_stop([-math.inf, 2.0])
    assert KnownLaw([-math.inf]).fair_cap(np.array([]), 1.0) == -math.inf


@pytest.mark.parametrize("n", [3, 12])
def test_the_predictive_laws_are_those_of_the_next_draw(n):
    seen = np.random.default_rng(n).exponential(2.0, n)
    total = seen.sum()
    g = ExponentialLaw(rule="predictive").fair_cap(seen, 0.05)
    lomax = stats.lomax(n, scale=total)
    assert excess(lomax, g) == pytest.approx(0.05, rel=1e-6)
    g = NormalLaw(rule="predictive").fair_cap(seen, 0.05)
    student = stats.t(n - 1, seen.mean(), seen.std(ddof=1) * math.sqrt(1 + 1 / n))
    assert excess(student, g) == pytest.approx(0.05, rel=1e-6)


def test_upper_bounds_cover_as_often_as_they_say():
    rng = np.random.default_rng(0)
    for law, draw, true in (
        (ExponentialLaw(level=0.8), lambda: rng.exponential(3.0, 7), exponential_cap(3.0, 0.2)),
        (NormalLaw(level=0.8), lambda: rng.normal(1.0, 2.0, 7), normal_cap(1.0, 2.0, 0.2)),
    ):
        share = np.mean([law.fair_cap(draw(), 0.2) >= true for _ in range(2000)])
        # Exact for the one parameter, at least that for the two.
        assert share > 0.8 - 4 * math.sqrt(0.16 / 2000)
        if isinstance(law, ExponentialLaw):
            assert share < 0.8 + 4 * math.sqrt(0.16 / 2000)


LAWS = [
    ExponentialLaw(),
    ExponentialLaw(rule="predictive"),
    ExponentialLaw(rule="plain"),
    EmpiricalLaw(),
]


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_the_cap_is_learnt_with_more_draws(law):
    seen = np.random.default_rng(1).exponential(2.0, 40_000)
    assert law.fair_cap(seen, 0.01) == pytest.approx(exponential_cap(2.0, 0.01), rel=0.05)


@pytest.mark.parametrize("rule", ["ucb", "predictive", "plain"])
def test_the_normal_cap_is_learnt_with_more_draws(rule):
    seen = np.random.default_rng(2).normal(-1.0, 0.5, 20_000)
    found = NormalLaw(rule=rule).fair_cap(seen, 0.01)
    assert found == pytest.approx(normal_cap(-1.0, 0.5, 0.01), abs=0.02)


def test_gaps_between_draws_need_only_an_upper_end():
    # The next draw is in each of four gaps with probability 1/4, at its upper end.
    g = EmpiricalLaw(upper=1.0).fair_cap(np.array([0.2, 0.6, 0.4]), 0.05)
    assert g == pytest.approx(1 - 0.05 * 4)
    seen = np.random.default_rng(3).random(5000)
    assert EmpiricalLaw(upper=1.0).fair_cap(seen, 0.02) == pytest.approx(0.8, abs=0.01)


def test_rules_wait_for_draws_and_caution_waits_longer():
    assert BestOfN(0.1, ExponentialLaw()).fair_cap([]) == math.inf
    assert BestOfN(0.1, NormalLaw()).fair_cap([1.0, 2.0]) == math.inf
    assert BestOfN(0.1, EmpiricalLaw()).fair_cap([1.0, 2.0, 3.0]) == math.inf
    seen = np.array([0.5, 1.0, 3.0, 0.1])
    for kind in (ExponentialLaw, NormalLaw, EmpiricalLaw):
        low, high = (kind(level=v).fair_cap(seen, 0.1) for v in (0.5, 0.95))
        assert low < high
    caps = {r: ExponentialLaw(rule=r).fair_cap(seen, 0.1) for r in ("ucb", "predictive", "plain")}
    assert len(set(caps.values())) == 3


def test_equal_draws_are_no_reason_to_go_on():
    assert NormalLaw().fair_cap(np.full(5, 2.0), 0.1) == pytest.approx(1.9)
    assert ExponentialLaw().fair_cap(np.zeros(5), 0.1) == -0.1
    assert EmpiricalLaw().fair_cap(np.full(5, 2.0), 0.1) == 2.0
    assert BestOfN(0.1, EmpiricalLaw()).should_stop(np.full(5, 2.0))


def test_draws_end_with_the_first_good_one_or_the_last_allowed():
    rule = BestOfN(0.1, ExponentialLaw(mean=1.0), most=4)
    assert rule.fair_cap([]) == pytest.approx(math.log(10))
    assert not rule.should_stop([])
    assert not rule.should_stop([1.0, 2.3])
    assert rule.should_stop([2.31])
    assert rule.should_stop([0.0, 0.0, 0.0, 0.0])
    assert not BestOfN(0.1, ExponentialLaw(mean=1.0)).should_stop([0.0] * 500)
    assert BestOfN(0.1, NormalLaw(0.0, 1.0)).fair_cap([5.0]) == normal_cap(0.0, 1.0, 0.1)


def payoff(rule, table):
    """Mean of the best reward less what the draws cost."""
    total = 0.0
    for row in table:
        n = next(n for n in range(1, len(row) + 1) if rule.should_stop(row[:n]))
        total += row[:n].max() - rule.cost * n
    return total / len(table)


def test_knowing_the_law_is_worth_the_fair_cap():
    table = np.random.default_rng(4).exponential(1.0, (4000, 120))
    rule = BestOfN(0.1, ExponentialLaw(mean=1.0), most=120)
    found = payoff(rule, table)
    # Stopping at g, the payoff g + Exp(1) - cost · Geometric has these moments.
    sd = math.sqrt(1 + 0.01 * (1 - 0.1) / 0.01)
    assert abs(found - math.log(10)) < 4 * sd / math.sqrt(4000)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: BestOfN(0.0, NormalLaw()), ConfigError, "cost of a draw must be positive"),
        (lambda: BestOfN(math.nan, NormalLaw()), ConfigError, "got nan"),
        (lambda: BestOfN(1.0, NormalLaw(), most=0), ConfigError, "most must be at least 1"),
        (lambda: KnownLaw([]), DataError, "at least one"),
        (lambda: KnownLaw([1.0, 2.0], [1.0]), DataError, "one probability per reward"),
        (lambda: KnownLaw([1.0, 2.0], [0.5, 0.6]), DataError, "sum to 1"),
        (lambda: KnownLaw([1.0, 2.0], [1.5, -0.5]), DataError, "at least 0"),
        (lambda: KnownLaw([math.nan]), DataError, "reward 0 is nan"),
        (lambda: ExponentialLaw(mean=0.0), ConfigError, "must be positive"),
        (lambda: ExponentialLaw(rule="lcb"), ConfigError, "got 'lcb'"),
        (lambda: NormalLaw(level=1.0), ConfigError, "level must lie"),
        (lambda: NormalLaw(mean=1.0), ConfigError, "both mean and sd"),
        (lambda: NormalLaw(mean=math.inf, sd=1.0), ConfigError, "must be finite"),
        (lambda: NormalLaw(mean=0.0, sd=0.0), ConfigError, "must be positive"),
        (lambda: EmpiricalLaw(upper=math.nan), ConfigError, "finite or None"),
        (lambda: BestOfN(1.0, ExponentialLaw()).fair_cap([-1.0]), DataError, "not negative"),
        (lambda: BestOfN(1.0, NormalLaw()).fair_cap([-math.inf] * 3), DataError, "EmpiricalLaw"),
        (lambda: BestOfN(1.0, EmpiricalLaw(upper=1.0)).fair_cap([2.0]), DataError, "above"),
        (lambda: BestOfN(1.0, NormalLaw()).should_stop([1.0, math.nan]), DataError, "reward 1"),
        (lambda: BestOfN(1.0, NormalLaw()).should_stop([[1.0]]), DataError, "shape"),
    ],
)  # fmt: skip
def test_bad_input_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_it_loads_no_torch():
    code = "import sys, esscher.kit.stopping; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
