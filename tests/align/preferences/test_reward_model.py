"""Reward models: exact where everything is enumerated, and what they learn from finite pairs."""

import json

import pytest
import torch

from esscher.align import evaluate, fit
from esscher.align.preferences import RewardConfig, RewardModel, fit_reward_model, load_reward_model
from esscher.align.preferences.pairs import Pairs, Split
from esscher.core import Reward, Target
from esscher.errors import CheckpointError, ConfigError, DataError
from esscher.kit.lm.causal import SmallLM
from esscher.kit.lm.sequences import Sequences, Texts
from tests.align import worlds
from tests.align.preferences import exact
from tests.align.preferences.texts import comparisons, worth
from tests.kit.lm.models import HF_KINDS, KINDS, build, hf, small, start_of


def trained(law, pairs, **settings):
    given = {"steps": 60, "batch": 64, "lr": 0.01, "held_out": 0.2, **settings}
    return fit_reward_model(law, pairs, config=RewardConfig(**given))


def jolted(law, seed=0):
    """A reward model with random numbers in its head."""
    model = RewardModel(law)
    with torch.no_grad():
        model.network.head.normal_(generator=worlds.seeded(seed))
    return model


@pytest.mark.parametrize("max_len", [3, pytest.param(5, marks=pytest.mark.slow)], ids=["40", "364"])
def test_every_pair_counted_gives_the_reward_up_to_a_constant(max_len):
    law = worlds.prior(max_len)
    pairs = exact.both(exact.every_pair(max_len))
    result = fit_reward_model(law, pairs, config=exact.reward_config(l2=0.0))
    gap = result.model.score(law.enumerate()) - exact.rewards(max_len)
    assert float((gap - gap.mean()).abs().max()) < 1e-3
    target = Target(law, Reward(result.model, beta=worlds.BETA))
    assert worlds.tvd(target.table().log_probs, worlds.toy(max_len).table().log_probs) < 1e-4


def test_l2_draws_rewards_towards_each_other():
    spreads = []
    for l2 in (0.0, 1e-4, 0.1):
        pairs = exact.both(exact.every_pair(3))
        model = fit_reward_model(worlds.prior(3), pairs, config=exact.reward_config(l2=l2)).model
        spreads.append(float(model.score(worlds.prior(3).enumerate()).std()))
    assert spreads[0] > spreads[1] > spreads[2]
    assert spreads[1] > 0.99 * spreads[0]
    assert spreads[2] < 0.7 * spreads[0]


def finite(n, seed):
    """N labelled pairs of draws of the tabular prior, half of them held out."""
    law, rng = worlds.prior(3), worlds.seeded(seed)
    x, y = (law.sample(n, rng=rng).x for _ in range(2))
    r = exact.rewards(3)
    label = (torch.rand(n, generator=rng, dtype=torch.float64) < (r[x] - r[y]).sigmoid()).double()
    whole = Pairs(x, y, None, label, torch.ones(n, dtype=torch.float64))
    return Split(whole.take(torch.arange(n // 2)), whole.take(torch.arange(n // 2, n)))


def test_finite_pairs_give_calibrated_held_out_probabilities():
    settings = RewardConfig(steps=200, batch=2048, lr=0.05)
    result = fit_reward_model(worlds.prior(3), finite(20_000, 0), config=settings)
    assert result.fit.calibration_error.mean < 0.02
    assert result.fit.log_loss.n == 10_000
    checked = [b for b in result.fit.calibration if b.n > 300]
    assert len(checked) >= 4
    for b in checked:
        assert abs(b.observed.mean - b.predicted.mean) < 4 * b.observed.se + 0.01


def test_the_mean_reward_of_the_training_texts_is_zero():
    split = finite(500, 1)
    model = fit_reward_model(worlds.prior(3), split, config=RewardConfig(steps=20, lr=0.1)).model
    x, _ = split.train.both()
    assert float(model.score(x).mean()) == pytest.approx(0.0, abs=1e-12)
    assert model.centre != 0


@pytest.mark.parametrize("kind", ["small", "gpt2"])
def test_a_network_tells_separable_pairs_apart(kind):
    result = trained(build(kind, max_new=5), comparisons(600, noisy=False), steps=100)
    assert result.fit.accuracy_low > 0.9
    assert result.fit.accuracy.n == 120
    low, high = result.model(["bcb", "aab"]).tolist()
    assert high > low + 1


def test_a_network_is_calibrated_on_noisy_pairs():
    pairs = comparisons(3000, seed=5)
    fit = trained(small(max_new=5), pairs, held_out=0.3, steps=120).fit
    seen = pairs.split(0.3)[1]
    gaps = [worth(a) - worth(b) for a, b in zip(seen.chosen, seen.rejected, strict=True)]
    possible = torch.tensor(gaps).abs().sigmoid().mean().item()
    assert possible < 0.95
    assert abs(fit.accuracy.mean - possible) < 0.05
    assert fit.calibration_error.mean < 0.06
    for b in fit.calibration:
        assert b.n < 30 or abs(b.observed.mean - b.predicted.mean) < 4 * b.observed.se + 0.03


def slow_reward(model, prompt, ids):
    """The head on the last state of one plain pass over start token, prompt and text."""
    row = torch.tensor([[start_of(model.law), *prompt, *ids]])
    backbone = model.network.backbone
    states = backbone.hidden(row) if hasattr(backbone, "hidden") else backbone(row)[0]
    return float(states[0, -1].detach() @ model.network.head.detach())


def tokens(law, text):
    encoded = law.tokenizer.encode([text] if isinstance(law, SmallLM) else text)
    return encoded[0] if isinstance(law, SmallLM) else [i for i in encoded if i != start_of(law)]


@pytest.mark.parametrize("kind", KINDS)
def test_rewards_of_a_padded_batch_are_those_of_single_texts(kind):
    law = build(kind, max_new=4)
    model, context = jolted(law), ["", "ab", "c", "abc", "b"]
    x = law.sample(5, context=context, rng=worlds.seeded(1)).x
    ids = [tokens(law, text) for text in context]
    got = model.score(x, context).tolist()
    for value, prompt, text in zip(got, ids, x.lists(), strict=True):
        assert value == pytest.approx(slow_reward(model, prompt, text), abs=1e-4)
    assert len(set(got)) == 5


def test_a_sequence_that_fills_the_context_is_read_without_its_last_token():
    law = small(max_new=4, context=6)
    model = jolted(law)
    x = Sequences(torch.tensor([[1, 2, 3, 1]]), torch.tensor([4]), torch.tensor([False]))
    ids = law.tokenizer.encode(["bc"])[0]
    got = model.score(x, ["bc"]).item()
    assert got == pytest.approx(slow_reward(model, ids, [1, 2, 3]), abs=1e-5)


def test_a_sequence_beyond_the_context_is_refused():
    model = jolted(small(max_new=4, context=6))
    x = Sequences.of_texts([[1] * 9], end=0, max_new=20)
    with pytest.raises(DataError, match="11 tokens together, but the network reads at most 6"):
        model.score(x)


def test_draws_are_scored_by_their_tokens_and_other_texts_by_the_tokenizer():
    law = small(max_new=4)
    model = jolted(law)
    cut = Sequences(torch.tensor([[1, 2]]), torch.tensor([2]), torch.tensor([False]))
    ended = law.encode(["ab"])
    assert law.items(cut) == law.items(ended) == ["ab"]
    by_tokens = model(law.items(cut)).item()
    assert by_tokens == model.score(cut).item()
    assert model(["ab"]).item() == model.score(ended).item()
    assert abs(by_tokens - model(["ab"]).item()) > 0.1
    foreign = Texts(["ab"], cut, small(max_new=4).tokenizer)
    assert model(foreign).item() == model(["ab"]).item()


@pytest.mark.parametrize("kind", ["small", "gpt2"])
def test_a_target_of_a_reward_model_weighs_samples_by_their_tokens(kind):
    law = build(kind, max_new=4)
    model = jolted(law)
    x = law.sample(30, context=["ab"] * 30, rng=worlds.seeded(2)).x
    target = Target(law, Reward(model, beta=0.5))
    got = target.log_weight(x, ["ab"] * 30)
    assert torch.allclose(got, model.score(x, ["ab"] * 30) / 0.5)
    assert target.names == ("reward",)


def test_a_fit_to_the_learnt_reward_moves_towards_its_target():
    law = small(max_new=4)
    model = trained(law, comparisons(400, noisy=False)).model
    target = Target(law, Reward(model, beta=2.0))
    policy = fit(law, target, steps=40, batch=64, lr=0.01).policy
    before, after = (evaluate(p, target, 300).kl_target_model.mean for p in (law, policy))
    assert after < 0.6 * before


@pytest.mark.parametrize("kind", ["tabular", "small", *HF_KINDS])
def test_a_saved_model_gives_the_same_rewards(kind, tmp_path):
    law = worlds.prior(3) if kind == "tabular" else build(kind, max_new=4)
    x = law.sample(20, rng=worlds.seeded(3)).x
    model = RewardModel(law) if kind == "tabular" else jolted(law)
    if kind == "tabular":
        with torch.no_grad():
            model.network.values.normal_(generator=worlds.seeded(0))
    model.centre = 0.25
    model.save(tmp_path / "model")
    for path in (tmp_path, tmp_path / "model"):
        again = load_reward_model(path, law)
        assert torch.equal(again.score(x), model.score(x))
    assert torch.equal(again.clone()(law.items(x)), model.score(x))


def test_a_model_of_another_prior_is_refused(tmp_path):
    jolted(small(max_new=4)).save(tmp_path)
    with pytest.raises(CheckpointError, match=r"another prior: its tokens"):
        load_reward_model(tmp_path, small(max_new=4, letters="abd"))
    with pytest.raises(CheckpointError, match=r"another prior: its network"):
        load_reward_model(tmp_path, small(max_new=4, context=30))
    with pytest.raises(CheckpointError, match=r"another prior: its network"):
        load_reward_model(tmp_path, worlds.prior(3))


@pytest.mark.parametrize("harm", ["nothing", "settings", "key", "weights", "shorter"])
def test_a_damaged_folder_is_a_checkpoint_error(harm, tmp_path):
    law = small(max_new=4)
    if harm != "nothing":
        jolted(law).save(tmp_path)
    if harm == "settings":
        (tmp_path / "reward.json").write_text("{")
    if harm == "key":
        (tmp_path / "reward.json").write_text(json.dumps({"network": "x"}))
    if harm in ("weights", "shorter"):
        file = tmp_path / "reward.safetensors"
        file.write_bytes(b"?" if harm == "weights" else file.read_bytes()[:-40])
    with pytest.raises(CheckpointError, match=r"holds no readable reward model|is damaged"):
        load_reward_model(tmp_path, law)


def test_the_prior_is_not_changed_by_training():
    law = hf("gpt2", max_new=5)
    before = [p.detach().clone() for p in law.module().parameters()]
    trained(law, comparisons(60), steps=5)
    assert all(torch.equal(a, b) for a, b in zip(before, law.module().parameters(), strict=True))


def test_a_law_without_a_network_is_refused():
    with pytest.raises(ConfigError, match="got a Sampled"):
        RewardModel(worlds.Sampled(worlds.prior(3)))
