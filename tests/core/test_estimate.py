import json
import math
import pickle

import pytest
import torch
from scipy import stats

from esscher.core import Estimate, bootstrap, clopper_pearson, from_samples
from esscher.errors import ConfigError, DataError, NumericsError, ShapeError
from tests.worlds import seeded


def test_text():
    assert str(Estimate(0.4764, 0.0123, 1000)) == "0.476 ± 0.012 (n=1000)"
    assert str(Estimate(12.0, 3.0, 5, unit="nats")) == "12.0 ± 3.0 nats (n=5)"
    assert f"{Estimate(0.4764, 0.0123, 1000):.1f}" == "0.5 ± 0.0 (n=1000)"
    assert str(Estimate(1.0, math.inf, 1)) == "1.000 ± ? (n=1)"
    assert str(Estimate(math.inf, math.inf, 3)) == "inf ± ? (n=3)"


def test_json_is_valid_json():
    full = Estimate(0.5, 0.1, 10, ess=3.0)
    assert json.loads(json.dumps(full.to_json())) == {"mean": 0.5, "se": 0.1, "n": 10, "ess": 3.0}
    assert Estimate(math.inf, math.inf, 1).to_json() == {"mean": None, "se": None, "n": 1}


def test_interval():
    low, high = Estimate(1.0, 0.5, 100).interval()
    assert (low, high) == pytest.approx((1 - 1.959964 * 0.5, 1 + 1.959964 * 0.5))
    assert Estimate(1.0, math.inf, 1).interval() == (-math.inf, math.inf)
    with pytest.raises(ConfigError, match="level"):
        Estimate(1.0, 0.5, 100).interval(95)


def test_from_samples():
    e = from_samples(torch.tensor([1.0, 2.0, 3.0, 6.0]))
    assert e.mean == 3.0
    assert e.se == pytest.approx(math.sqrt(14 / 3 / 4))
    assert from_samples(torch.tensor([2.0])).se == math.inf
    assert from_samples(torch.tensor([2.0, -torch.inf])) == Estimate(-math.inf, math.inf, 2)


def test_nothing_turns_into_nan():
    with pytest.raises(NumericsError, match="NaN"):
        from_samples(torch.tensor([torch.inf, -torch.inf]))
    with pytest.raises(NumericsError, match="NaN"):
        from_samples(torch.tensor([torch.nan, 1.0]))
    with pytest.raises(NumericsError):
        Estimate(math.nan, 1.0, 3)
    with pytest.raises(NumericsError):
        Estimate(1.0, -1.0, 3)
    with pytest.raises(ConfigError):
        Estimate(1.0, 1.0, 0)
    with pytest.raises(ShapeError):
        from_samples(torch.zeros(0))


def test_estimates_survive_pickling():
    e = Estimate(0.5, 0.1, 10, ess=3.0, unit="nats")
    assert pickle.loads(pickle.dumps(e)) == e


@pytest.mark.parametrize(("k", "n"), [(0, 1), (0, 100), (3, 10), (50, 100), (10, 10)])
def test_clopper_pearson_inverts_the_binomial(k, n):
    low, high = clopper_pearson(k, n)
    if k > 0:
        assert stats.binom.sf(k - 1, n, low) == pytest.approx(0.025, rel=1e-6)
    else:
        assert low == 0.0
    if k < n:
        assert stats.binom.cdf(k, n, high) == pytest.approx(0.025, rel=1e-6)
    else:
        assert high == 1.0


@pytest.mark.parametrize(("k", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_impossible_counts(k, n):
    with pytest.raises(ConfigError, match=f"k={k}, n={n}"):
        clopper_pearson(k, n)


def test_bootstrap_agrees_with_the_formula():
    x = torch.randn(500, generator=seeded(0), dtype=torch.float64)
    e = bootstrap(x, statistic=torch.mean, rng=seeded(1), n_boot=2000)
    exact = from_samples(x)
    assert e.mean == pytest.approx(exact.mean)
    assert e.se == pytest.approx(exact.se, rel=0.06)


def test_bootstrap_keeps_pairs_together():
    x = torch.randn(200, generator=seeded(0), dtype=torch.float64)
    e = bootstrap(x, -x, statistic=lambda a, b: (a + b).abs().sum(), rng=seeded(1), n_boot=20)
    assert (e.mean, e.se) == (0.0, 0.0)


def test_bootstrap_errors():
    with pytest.raises(DataError, match="one length"):
        bootstrap(torch.zeros(3), torch.zeros(4), statistic=torch.mean, rng=seeded(0))
    with pytest.raises(ConfigError, match="n_boot"):
        bootstrap(torch.zeros(3), statistic=torch.mean, rng=seeded(0), n_boot=1)
