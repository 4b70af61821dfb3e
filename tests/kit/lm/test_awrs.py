"""A rejected token costs mass, and the weight says how much: against sums over all tokens."""

import math

import pytest
import torch

from esscher.errors import ConfigError
from esscher.kit.lm.awrs import first_allowed
from esscher.kit.lm.smc import smc
from tests.kit.lm.models import small
from tests.worlds import seeded

P = torch.tensor([0.4, 0.25, 0.2, 0.1, 0.05], dtype=torch.float64)
RUNS = 40_000


def drawn(allowed, extra=2, runs=RUNS, p=P):
    table = torch.tensor(allowed)
    asked = []

    def test(rows, tokens):
        asked.append(len(rows))
        return table[tokens]

    tokens, log_w = first_allowed(p.log().expand(runs, -1), test, rng=seeded(0), extra=extra)
    return tokens, log_w, sum(asked)


@pytest.mark.parametrize("extra", [1, 2, 4])
@pytest.mark.parametrize(
    "allowed",
    [
        [True, True, True, True, True],
        [False, True, False, True, False],
        [False, False, False, True, True],
        [False, False, False, False, True],
    ],
)
def test_every_allowed_token_weighs_its_mass(allowed, extra):
    tokens, log_w, _ = drawn(allowed, extra)
    w = log_w.exp()
    for v in range(5):
        own = torch.where(tokens == v, w, 0.0)
        wanted = float(P[v]) if allowed[v] else 0.0
        assert abs(float(own.mean()) - wanted) < 4 * float(own.std()) / math.sqrt(RUNS) + 1e-12
    mass = float(P[torch.tensor(allowed)].sum())
    # The token itself follows the law of the allowed ones, whatever its weight.
    seen = torch.bincount(tokens, minlength=5) / RUNS
    wanted = torch.where(torch.tensor(allowed), P / mass, 0.0)
    assert float((seen - wanted).abs().max()) < 4 * 0.5 / math.sqrt(RUNS)
    assert float(w.max()) <= 1 + 1e-12


def test_a_weight_without_rejection_is_one():
    _, log_w, asked = drawn([True] * 5)
    torch.testing.assert_close(log_w, torch.zeros(RUNS, dtype=torch.float64))
    assert asked == 3 * RUNS


def test_nothing_allowed_weighs_nothing():
    _, log_w, asked = drawn([False] * 5, runs=10)
    assert bool((log_w == -math.inf).all())
    assert asked == 50


def test_tokens_without_mass_are_never_chosen():
    p = torch.tensor([0.0, 0.5, 0.5, 0.0], dtype=torch.float64)
    tokens, log_w, _ = drawn([True, False, True, True], p=p, runs=2000)
    assert set(tokens.tolist()) == {2}
    assert float(log_w.exp().mean()) == pytest.approx(0.5, abs=0.05)


def test_more_draws_steady_the_weight():
    spread = [float(drawn([False, True, False, True, True], e)[1].exp().std()) for e in (1, 2, 4)]
    assert spread[0] > 1.2 * spread[1] > 1.2 * spread[2]


def test_rejecting_needs_a_test_and_no_guide():
    lm = small()
    prompt = torch.tensor(lm.prompts(None, 1)[0])
    settings = {"max_new": 3, "end": lm.end, "rng": seeded(0)}
    with pytest.raises(ConfigError, match="rejecting needs a test"):
        smc(lm.network, prompt, 4, lambda x: torch.zeros(len(x)), rejecting=True, **settings)
