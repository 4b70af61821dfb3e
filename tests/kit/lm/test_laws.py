"""What must hold for every network-backed law: it samples, scores and differentiates one law."""

import pytest
import torch
from scipy import stats

from esscher.errors import DataError, ShapeError
from esscher.kit.lm import causal, generate, hf
from esscher.kit.lm.language_model import LanguageModel
from esscher.kit.lm.sequences import Sequences
from tests.kit.lm.models import KINDS, build, every_sequence, slow_log_prob, vocab_of

PROMPTS = ["", "ab", "cabba", "b"]
PROMPT_IDS = {"": [], "ab": [1, 2], "cabba": [3, 1, 2, 2, 1], "b": [2]}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def same(a, b):
    return a.lists() == b.lists() and torch.equal(a.finished, b.finished)


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def test_is_a_language_model(kind):
    assert isinstance(build(kind), LanguageModel)


def test_scores_equal_an_independent_slow_sum(kind):
    lm = build(kind, max_new=8)
    contexts = PROMPTS * 64
    x, log_prob = lm.sample(256, context=contexts, rng=seeded())
    assert 30 < int(x.finished.sum()) < 256
    with torch.no_grad():
        slow = torch.stack(
            [
                slow_log_prob(lm, ids, PROMPT_IDS[c])
                for ids, c in zip(x.lists(), contexts, strict=True)
            ]
        )
    assert log_prob.dtype == torch.float64
    assert float((lm.log_prob(x, context=contexts) - slow).abs().max()) < 1e-5
    assert float((log_prob - slow).abs().max()) < 1e-5


def test_the_law_sums_to_one(kind):
    lm = build(kind)
    x = every_sequence(vocab_of(lm), 3)
    for prompt in PROMPTS:
        assert float(lm.log_prob(x, context=prompt).exp().sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("prompt", [None, "cab"])
def test_frequencies_follow_the_law(kind, prompt):
    lm = build(kind)
    n = 4000
    x = every_sequence(vocab_of(lm), 3)
    expected = n * lm.log_prob(x, context=prompt).exp()
    rows = {tuple(row): i for i, row in enumerate(x.lists())}
    counts = torch.zeros(len(x))
    for row in lm.sample(n, context=prompt, rng=seeded(1)).x.lists():
        counts[rows[tuple(row)]] += 1
    common = expected >= 5
    f = [*counts[common].tolist(), float(counts[~common].sum())]
    e = [*expected[common].tolist(), float(expected[~common].sum())]
    assert int(common.sum()) >= 8
    assert stats.chisquare(f, e, sum_check=False).pvalue > 1e-3


def test_draws_are_determined_by_the_generator(kind):
    lm = build(kind, max_new=6)
    before = torch.get_rng_state()
    first, again, other = (lm.sample(50, rng=seeded(s)) for s in (3, 3, 4))
    assert same(first.x, again.x)
    assert torch.equal(first.log_prob, again.log_prob)
    assert not same(first.x, other.x)
    assert torch.equal(before, torch.get_rng_state())


def test_compaction_changes_nothing(kind, monkeypatch):
    lm = build(kind, max_new=12)
    drawn = []
    for share in (0.0, 1.0):
        monkeypatch.setattr(generate, "COMPACT_BELOW", share)
        drawn.append(lm.sample(120, context=PROMPTS * 30, rng=seeded()))
    never, always = drawn
    assert len(set(never.x.lengths.tolist())) > 4
    assert same(never.x, always.x)
    torch.testing.assert_close(never.log_prob, always.log_prob, atol=1e-5, rtol=0)


def test_one_prompt_and_many_agree(kind):
    lm = build(kind, max_new=5)
    one = lm.sample(20, context="cab", rng=seeded())
    many = lm.sample(20, context=["cab"] * 20, rng=seeded())
    assert same(one.x, many.x)
    none, empty = lm.sample(20, rng=seeded()), lm.sample(20, context="", rng=seeded())
    assert same(none.x, empty.x)


def test_rows_stay_with_their_prompts(kind):
    lm = build(kind, max_new=4)
    contexts = ["cab", "ab", "cab", "", "ab", "cab"]
    x, log_prob = lm.sample(6, context=contexts, rng=seeded())
    alone = [
        float(lm.log_prob(x.take(torch.tensor([i])), context=c)) for i, c in enumerate(contexts)
    ]
    torch.testing.assert_close(log_prob, torch.tensor(alone).double(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("budget", [1, 40, 10_000])
def test_chunks_give_the_gradient_of_the_whole(kind, budget, monkeypatch):
    monkeypatch.setattr(causal, "CHUNK_TOKENS", budget)
    monkeypatch.setattr(hf, "CHUNK_TOKENS", budget)
    lm = build(kind, max_new=5)
    contexts = PROMPTS * 3
    x = lm.sample(12, context=contexts, rng=seeded()).x
    weights = torch.linspace(-1, 1, 12, dtype=torch.float64)
    parameters = list(lm.module().parameters())

    whole = sum(
        w * slow_log_prob(lm, ids, PROMPT_IDS[c])
        for w, ids, c in zip(weights, x.lists(), contexts, strict=True)
    )
    expected = torch.autograd.grad(whole, parameters)
    covered = []
    for index, log_prob in lm.log_prob_chunks(x, context=contexts):
        covered += index.tolist()
        (weights[index] * log_prob).sum().backward()
    assert sorted(covered) == list(range(12))
    for p, g in zip(parameters, expected, strict=True):
        torch.testing.assert_close(p.grad, g, atol=2e-4, rtol=1e-3)


def test_the_size_of_the_graphs_is_known_before(kind):
    lm = build(kind, max_new=20)
    x = lm.sample(40, rng=seeded()).x
    held = {}

    def keep(tensor):
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        chunks = list(lm.log_prob_chunks(x))
    for p in lm.module().parameters():
        held.pop(p.untyped_storage().data_ptr(), None)
    assert len(chunks) > 0
    assert 0.5 < lm.graph_bytes(x) / sum(held.values()) < 2.0


def test_no_draws_and_single_tokens(kind):
    lm = build(kind, max_new=1)
    for context in (None, "ab", []):
        x, log_prob = lm.sample(0, context=context, rng=seeded())
        assert (len(x), log_prob.shape, lm.items(x)) == (0, (0,), [])
        assert lm.log_prob(x, context=context).shape == (0,)
        assert list(lm.log_prob_chunks(x, context=context)) == []
    x, log_prob = lm.sample(500, rng=seeded())
    assert x.lengths.tolist() == [1] * 500
    assert 0 < int(x.finished.sum()) < 500
    torch.testing.assert_close(lm.log_prob(x), log_prob, atol=1e-5, rtol=0)


def test_all_rows_may_end_at_once(kind):
    lm = build(kind, max_new=6)
    ended = Sequences(torch.zeros(5, 1).long(), torch.ones(5).long(), torch.ones(5).bool())
    p_end = float(lm.log_prob(ended)[0].exp())
    drawn = (lm.sample(1, rng=seeded(seed)) for seed in range(200))
    x, log_prob = next(draws for draws in drawn if draws.x.lists() == [[0]])
    assert float(log_prob.exp()) == pytest.approx(p_end, rel=1e-5)
    assert x.tokens.shape == (1, 1)
    assert lm.items(ended) == [""] * 5


def test_items_and_encode_are_inverse(kind):
    lm = build(kind, max_new=4)
    x = lm.encode(["ab", "", "abcabc"])
    assert x.lists() == [[1, 2, 0], [0], [1, 2, 3, 1]]
    assert x.finished.tolist() == [True, True, False]
    assert lm.items(x) == ["ab", "", "abca"]
    assert len(lm.encode([])) == 0


def test_a_clone_is_independent(kind):
    lm = build(kind)
    x, before = lm.sample(10, rng=seeded())
    twin = lm.clone()
    assert torch.equal(twin.log_prob(x), lm.log_prob(x))
    with torch.no_grad():
        for p in twin.module().parameters():
            p.mul_(0.5)
    torch.testing.assert_close(lm.log_prob(x), before, atol=1e-5, rtol=0)
    assert float((twin.log_prob(x) - before).abs().max()) > 1e-2


def test_errors_name_the_cause(kind):
    lm = build(kind)
    with pytest.raises(DataError, match="has 22 tokens, but only 21 fit"):
        lm.sample(1, context="ab" * 11, rng=seeded())
    assert len(lm.sample(1, context="ab" * 10 + "c", rng=seeded()).x) == 1
    with pytest.raises(ShapeError, match="2 contexts for 3 samples"):
        lm.sample(3, context=["a", "b"], rng=seeded())
    with pytest.raises(DataError, match="prompt 1 is a int"):
        lm.sample(2, context=["a", 7], rng=seeded())
    with pytest.raises(DataError, match="text 0 holds lone surrogates"):
        lm.sample(1, context="\ud800", rng=seeded())
    with pytest.raises(DataError, match="has 5 tokens, but this law generates at most 3"):
        lm.log_prob(build(kind, max_new=5).encode(["aaaaaaa"]))


def test_broken_weights_are_noticed(kind):
    from esscher.errors import NumericsError

    lm = build(kind)
    with torch.no_grad():
        next(iter(lm.module().parameters())).fill_(torch.nan)
    with pytest.raises(NumericsError, match="log-probability NaN"):
        lm.sample(2, rng=seeded())


def test_float64_weights_work(kind):
    lm = build(kind, max_new=6)
    x, log_prob = lm.sample(20, context="ab", rng=seeded())
    lm.module().double()
    torch.testing.assert_close(lm.log_prob(x, context="ab"), log_prob, atol=1e-5, rtol=0)
    x, log_prob = lm.sample(20, context="ab", rng=seeded())
    torch.testing.assert_close(lm.log_prob(x, context="ab"), log_prob, atol=1e-12, rtol=0)
