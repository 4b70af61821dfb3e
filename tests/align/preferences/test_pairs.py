"""Texts as pairs of a law's samples, and averages over weighted pairs."""

import math

import pytest
import torch

from esscher.align.preferences import Pairs, PreferenceConfig, Preferences, encode_pairs
from esscher.align.preferences.pairs import prepare_pairs, weighted_mean
from esscher.core import from_samples
from esscher.errors import ConfigError, DataError, ShapeError
from esscher.kit.lm.tabular import TabularLM
from tests.align import worlds
from tests.align.preferences.texts import comparisons
from tests.kit.lm.models import HF_KINDS, KINDS, build


def config(**settings):
    return PreferenceConfig(**settings)


@pytest.mark.parametrize("kind", KINDS)
def test_texts_become_finished_sequences_and_full_ones_cut_outcomes(kind):
    law = build(kind, max_new=3)
    given = Preferences(None, ("ab", "abc", ""), ("c", "a", "b"))
    pairs = encode_pairs(law, given)
    assert law.items(pairs.chosen) == list(given.chosen)
    assert law.items(pairs.rejected) == list(given.rejected)
    assert pairs.chosen.finished.tolist() == [True, False, True]
    assert pairs.chosen.lengths.tolist() == [3, 3, 1]
    assert pairs.label.tolist() == pairs.weight.tolist() == [1.0] * 3


def test_texts_of_a_tabular_model_are_letter_ids():
    law = TabularLM(alphabet=2, max_len=3)
    pairs = encode_pairs(law, Preferences(None, ("0 1", ""), ("1 1 0", "0")))
    assert law.items(pairs.chosen) == [[0, 1, 2], [2]]
    assert law.items(pairs.rejected) == [[1, 1, 0], [0, 2]]
    for text in ("0 2", "ab", "-1"):
        with pytest.raises(DataError, match="letter ids from 0 to 1"):
            encode_pairs(law, Preferences(None, (text,), ("0",)))


def test_pairs_are_scored_in_their_contexts():
    law = build("small", max_new=4)
    split = prepare_pairs(law, comparisons(40, prompts=True), config(held_out=0.25))
    for side in split:
        wanted = [law.log_prob(x, context=side.context) for x in (side.chosen, side.rejected)]
        assert torch.allclose(side.log_p0, torch.stack(wanted), atol=1e-5)
        assert set(side.context) == {"ab", "c"}


@pytest.mark.parametrize("kind", ["small", "gpt2"])
def test_a_text_longer_than_the_model_writes_is_refused_or_left_out(kind):
    law = build(kind, max_new=4)
    fine = comparisons(40)
    given = Preferences(None, (*fine.chosen, "abcab"), (*fine.rejected, "a"))
    with pytest.raises(
        DataError, match=r"1 of 41 pairs .* more than 4 tokens.*pair 40 \('abcab'\)"
    ):
        prepare_pairs(law, given, config(held_out=0.25))
    with pytest.warns(UserWarning, match="1 of 41 pairs .* are left out"):
        dropped = prepare_pairs(law, given, config(held_out=0.25, overlong="drop"))
    plain = prepare_pairs(law, fine, config(held_out=0.25))
    assert torch.equal(dropped.train.log_p0, plain.train.log_p0)


def test_dropping_every_pair_is_an_error():
    given = Preferences(None, ("aaaa", "bbbb"), ("c", "c"))
    with pytest.raises(DataError, match="2 of 2 pairs"):
        prepare_pairs(build("small", max_new=3), given, config(overlong="drop"))


@pytest.mark.parametrize("kind", ["small", *HF_KINDS])
def test_a_prompt_longer_than_the_context_is_refused(kind):
    fine = comparisons(40)
    given = Preferences(("a" * 30,) * 40, fine.chosen, fine.rejected)
    with pytest.raises(DataError, match="has 30 tokens, but only 20 fit"):
        prepare_pairs(build(kind, max_new=4), given, config(held_out=0.25))


def test_a_law_of_another_kind_is_refused():
    with pytest.raises(ConfigError, match="got a Sampled"):
        encode_pairs(worlds.Sampled(worlds.prior(3)), comparisons(4))


def test_parts_of_unequal_length_are_refused():
    x = torch.arange(3)
    for parts in ((x[:2], None), (x, ["a"]), (x[:0], None)):
        with pytest.raises(ShapeError, match="one length"):
            Pairs(
                x[: len(parts[0])] if not len(parts[0]) else x, parts[0], parts[1], *[x * 1.0] * 2
            )


def test_rows_are_taken_with_all_that_belongs_to_them():
    law = build("small", max_new=4)
    whole = prepare_pairs(law, comparisons(40, prompts=True), config(held_out=0.25)).train
    rows = torch.tensor([3, 0, 7])
    part = whole.take(rows)
    assert law.items(part.chosen) == [law.items(whole.chosen)[i] for i in rows]
    assert part.context == [whole.context[i] for i in rows]
    assert torch.equal(part.log_p0, whole.log_p0[:, rows])
    x, context = part.both()
    assert law.items(x) == law.items(part.chosen) + law.items(part.rejected)
    assert context == part.context * 2


def test_equal_weights_give_the_plain_mean():
    values = torch.randn(50, generator=worlds.seeded(0), dtype=torch.float64)
    got, wanted = weighted_mean(values, torch.full((50,), 3.0).double()), from_samples(values)
    assert got.mean == pytest.approx(wanted.mean, rel=1e-12)
    assert got.se == pytest.approx(wanted.se, rel=1e-12)
    assert got.ess is None
    assert math.isinf(weighted_mean(values[:1], torch.ones(1).double()).se)


def test_weighted_means_have_the_error_they_claim():
    rng = worlds.seeded(1)
    weights = torch.rand(400, generator=rng, dtype=torch.float64)
    found = [
        weighted_mean(torch.randn(400, generator=rng, dtype=torch.float64), weights)
        for _ in range(500)
    ]
    spread = torch.tensor([f.mean for f in found]).std().item()
    assert found[0].se == pytest.approx(spread, rel=0.15)
    assert found[0].ess == pytest.approx(float(weights.sum() ** 2 / (weights**2).sum()))
