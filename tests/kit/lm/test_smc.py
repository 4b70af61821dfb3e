"""Sequential Monte Carlo against sums over all sequences."""

import math

import pytest
import torch

from esscher.errors import ConfigError, NumericsError
from esscher.kit.lm.smc import smc
from tests import worlds
from tests.kit.lm.models import KINDS, build, every_sequence, start_of, vocab_of
from tests.worlds import ALPHABET, EOS, MAX_LEN, PREFIXES, SEQUENCES, seeded

PHI = dict(zip(SEQUENCES, worlds.toy_target().log_weight(torch.arange(364)).tolist(), strict=True))
LOG_Z = worlds.toy_posterior().log_z


class Tree:
    """Values [4] after every prefix, behind the calls a network answers."""

    def __init__(self, rows):
        self.rows = dict(zip(PREFIXES, rows, strict=True))

    def prefill(self, prompts, owner, max_new):
        decoder = TreeDecoder(self, [""] * len(owner))
        return decoder.values(), decoder


class TreeDecoder:
    def __init__(self, tree, prefixes):
        self.tree, self.prefixes = tree, prefixes

    def values(self):
        return torch.stack([self.tree.rows[p] for p in self.prefixes])

    def step(self, ids):
        pairs = zip(self.prefixes, ids.tolist(), strict=True)
        self.prefixes = [p + ALPHABET[i] for p, i in pairs]
        return self.values()

    def select(self, rows):
        self.prefixes = [self.prefixes[i] for i in rows.tolist()]


def texts(x):
    return ["".join(ALPHABET[i] for i in row) for row in x.lists(keep_end=False)]


def weigh(x):
    return torch.tensor([PHI[t] for t in texts(x)], dtype=torch.float64)


def optimal_twist():
    """Log E_p0[φ | prefix, v] for every prefix and next token."""
    p0 = dict(zip(SEQUENCES, worlds.toy_prior().probs.tolist(), strict=True))

    def value(start):
        inside = [t for t in SEQUENCES if t.startswith(start)]
        mass = sum(p0[t] for t in inside)
        return math.log(sum(p0[t] * math.exp(PHI[t]) for t in inside) / mass)

    rows = [[value(p + c) for c in ALPHABET] + [PHI[p]] for p in PREFIXES]
    return Tree(torch.tensor(rows, dtype=torch.float64))


def some_twist():
    rng = seeded(7)
    return Tree(0.5 * torch.randn(len(PREFIXES), EOS + 1, dtype=torch.float64, generator=rng))


def run(k, seed, guide=None, **settings):
    return smc(
        Tree(worlds.prior_logits()),
        torch.tensor([EOS]),
        k,
        weigh,
        guide=guide,
        max_new=MAX_LEN,
        end=EOS,
        rng=seeded(seed),
        **settings,
    )


def ratios(runs):
    z = torch.tensor([math.exp(r.log_z - LOG_Z) for r in runs])
    return z.mean().item(), z.std().item() / len(z) ** 0.5


@pytest.mark.parametrize("guide", [lambda: None, some_twist], ids=["plain", "twisted"])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_estimate_of_z_is_unbiased_whatever_the_twist(guide, share):
    mean, se = ratios([run(16, seed, guide(), resample_below=share) for seed in range(300)])
    assert 0 < se < 0.1
    assert abs(mean - 1) < 3 * se


def test_with_the_optimal_twist_every_run_is_exact():
    for seed in range(5):
        found = run(8, seed, optimal_twist())
        assert found.log_z == pytest.approx(LOG_Z, abs=1e-10)
        assert found.resampled == []
        torch.testing.assert_close(found.log_weight.exp(), torch.full((8,), 1 / 8).double())


def test_the_optimal_twist_is_worth_its_cost():
    spread = {
        name: torch.tensor([run(16, seed, guide).log_z for seed in range(100)]).std().item()
        for name, guide in (("plain", None), ("optimal", optimal_twist()))
    }
    assert spread["optimal"] < 1e-10
    assert spread["plain"] > 0.1


def some_policy():
    rng = seeded(3)
    noise = torch.randn(len(PREFIXES), EOS + 1, dtype=torch.float64, generator=rng)
    return Tree(worlds.prior_logits() + 0.5 * noise)


@pytest.mark.parametrize("guide", [lambda: None, some_twist], ids=["plain", "twisted"])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_another_proposal_keeps_the_estimate_unbiased(guide, share):
    runs = [
        run(16, seed, guide(), proposal=some_policy(), resample_below=share) for seed in range(300)
    ]
    mean, se = ratios(runs)
    assert 0 < se < 0.1
    assert abs(mean - 1) < 3 * se


def test_a_proposal_that_is_the_prior_changes_nothing():
    guide = some_twist()
    plain, same = run(16, 5, guide), run(16, 5, guide, proposal=Tree(worlds.prior_logits()))
    assert torch.equal(plain.x.tokens, same.x.tokens)
    assert plain.log_z == pytest.approx(same.log_z, abs=1e-12)


@pytest.mark.parametrize(
    ("guide", "proposal"),
    [(lambda: None, lambda: None), (some_twist, lambda: None), (some_twist, some_policy)],
    ids=["plain", "twisted", "proposed"],
)
def test_weighted_particles_follow_the_posterior(guide, proposal):
    found = run(40_000, 1, guide(), proposal=proposal(), resample_below=1.0)
    assert len(found.resampled) > 1
    share = dict.fromkeys(SEQUENCES, 0.0)
    for text, w in zip(texts(found.x), found.log_weight.exp().tolist(), strict=True):
        share[text] += w
    wanted = worlds.toy_posterior().probs
    found_share = torch.tensor([share[t] for t in SEQUENCES]).double()
    assert 0.5 * float((found_share - wanted).abs().sum()) < 0.07


def test_particles_that_all_end_at_once_are_not_resampled():
    ends = torch.full((len(PREFIXES), EOS + 1), -1e3, dtype=torch.float64)
    ends[:, EOS] = 0.0
    found = smc(
        Tree(ends),
        torch.tensor([EOS]),
        4,
        weigh,
        resample_below=1.0,
        max_new=MAX_LEN,
        end=EOS,
        rng=seeded(0),
    )
    assert texts(found.x) == [""] * 4
    assert found.log_z == pytest.approx(PHI[""])


def test_one_seed_one_result():
    assert torch.equal(run(16, 3).x.tokens, run(16, 3).x.tokens)
    assert run(16, 3).log_z == run(16, 3).log_z != run(16, 4).log_z


@pytest.mark.parametrize("kind", KINDS)
def test_on_a_network_with_a_learnt_form_of_twist(kind):
    lm = build(kind, max_new=3)
    twist = lm.twist()
    scale = 1.0 if kind == "small" else 0.25
    with torch.no_grad():
        twist.choice.normal_(0.0, scale, generator=seeded(0))
        twist.level.normal_(0.0, scale, generator=seeded(1))

    def allowed(x):
        has = [2 in row for row in x.lists(keep_end=False)]
        return torch.where(torch.tensor(has), 0.0, -torch.inf).double()

    everything = every_sequence(vocab_of(lm), 3)
    log_z = float((lm.log_prob(everything) + allowed(everything)).logsumexp(0))
    for guide in (None, twist):
        z = [
            smc(
                lm.network,
                torch.tensor([start_of(lm)]),
                8,
                allowed,
                guide=guide,
                max_new=3,
                end=0,
                rng=seeded(seed),
            )
            for seed in range(100)
        ]
        values = torch.tensor([math.exp(r.log_z - log_z) for r in z])
        assert abs(values.mean().item() - 1) < 3.5 * values.std().item() / 100**0.5
        for r in z[:20]:
            alive = r.log_weight > -torch.inf
            assert torch.equal(alive, allowed(r.x) == 0)


def test_when_every_particle_dies():
    found = smc(
        Tree(worlds.prior_logits()),
        torch.tensor([EOS]),
        4,
        lambda x: torch.full((len(x),), -torch.inf),
        max_new=MAX_LEN,
        end=EOS,
        rng=seeded(0),
    )
    assert found.log_z == -math.inf
    assert bool((found.log_weight == -torch.inf).all())


def test_bad_settings_and_bad_evidence():
    for settings in ({"k": 0}, {"k": 2, "resample_below": 1.5}):
        with pytest.raises(ConfigError, match="resample_below in"):
            run(seed=0, **settings)
    with pytest.raises(NumericsError, match="NaN"):
        smc(
            Tree(worlds.prior_logits()),
            torch.tensor([EOS]),
            4,
            lambda x: torch.full((len(x),), torch.nan),
            max_new=MAX_LEN,
            end=EOS,
            rng=seeded(0),
        )
