"""The enumerable model against closed forms and the numbers of the reference world."""

import itertools
import math

import pytest
import torch
from scipy import stats

from esscher.core.law import Table
from esscher.errors import CheckpointError, ConfigError
from esscher.kit.lm.language_model import LanguageModel
from esscher.kit.lm.tabular import TabularLM


def reward(ids):
    """Number of "0 then 1", half a point for any 2, less a quarter of the length, end included."""
    pairs = sum(a == 0 and b == 1 for a, b in itertools.pairwise(ids))
    return pairs + 0.5 * (2 in ids) - 0.25 * len(ids) / 5


def test_the_reference_world():
    lm = TabularLM()
    x = lm.enumerate()
    prior = Table(lm.log_prob(x))
    r = torch.tensor([reward(ids) for ids in lm.items(x)], dtype=torch.float64)
    posterior = Table(prior.log_probs + r / 0.5)
    assert len(x) == 364
    assert prior.expectation(r) == pytest.approx(0.0770, abs=1e-4)
    assert posterior.expectation(r) == pytest.approx(0.4984, abs=1e-4)
    assert posterior.log_z == pytest.approx(0.4771, abs=1e-4)
    assert prior.entropy() == pytest.approx(2.330, abs=5e-4)
    assert posterior.entropy() == pytest.approx(3.765, abs=5e-4)


@pytest.mark.parametrize(("alphabet", "max_len"), [(1, 1), (1, 6), (2, 3), (3, 5), (9, 2)])
def test_all_outcomes_sum_to_one_and_equal_the_product_of_their_steps(alphabet, max_len):
    lm = TabularLM(alphabet, max_len, seed=1)
    log_probs = lm.log_probs().detach()
    outcomes = lm.items(lm.enumerate())
    assert len(outcomes) == sum(alphabet**t for t in range(max_len + 1))
    assert len(set(map(tuple, outcomes))) == len(outcomes)
    assert float(log_probs.exp().sum()) == pytest.approx(1, abs=1e-12)
    steps = torch.log_softmax(lm.module().logits.detach(), 1)
    prefixes = [tuple(s[:-1]) for s in outcomes if s[-1] == alphabet]
    rows = {prefix: i for i, prefix in enumerate(prefixes)}
    for ids, log_prob in zip(outcomes, log_probs.tolist(), strict=True):
        by_hand = sum(float(steps[rows[tuple(ids[:t])], token]) for t, token in enumerate(ids))
        assert log_prob == pytest.approx(by_hand, abs=1e-12)


def test_frequencies_follow_the_law():
    lm = TabularLM(2, 3)
    x, log_prob = lm.sample(5000, rng=torch.Generator().manual_seed(0))
    assert torch.equal(log_prob, lm.log_prob(x))
    counts = torch.bincount(x, minlength=15).tolist()
    expected = (5000 * lm.log_probs().detach().exp()).tolist()
    assert stats.chisquare(counts, expected, sum_check=False).pvalue > 1e-3
    again = lm.sample(5000, rng=torch.Generator().manual_seed(0))
    assert torch.equal(again.x, x)


def test_gradients_reach_the_logits():
    lm = TabularLM(2, 2)
    x = torch.tensor([0, 3, 3])
    ((index, log_prob),) = lm.log_prob_chunks(x)
    assert index.tolist() == [0, 1, 2]
    log_prob.exp().sum().backward()
    gradient = lm.module().logits.grad

    def value(logits):
        twin = TabularLM(2, 2)
        twin.module().load_state_dict({"logits": logits})
        return float(twin.log_prob(x).exp().sum())

    base = lm.module().logits.detach()
    for i, j in [(0, 0), (0, 2), (1, 1), (2, 2)]:
        step = torch.zeros_like(base)
        step[i, j] = 1e-5
        slope = (value(base + step) - value(base - step)) / 2e-5
        assert float(gradient[i, j]) == pytest.approx(slope, abs=1e-8)


def test_saved_and_cloned_models_are_equal_and_independent(tmp_path):
    lm = TabularLM(2, 3, seed=5)
    x = lm.enumerate()
    with torch.no_grad():
        lm.module().logits.mul_(1.5)
    before = lm.log_prob(x)
    lm.save(tmp_path / "new" / "folder")
    again, twin = TabularLM.load(tmp_path / "new" / "folder"), lm.clone()
    assert isinstance(again, LanguageModel)
    for other in (again, twin):
        assert torch.equal(other.log_prob(x), before)
        with torch.no_grad():
            other.module().logits.zero_()
        assert math.isclose(float(other.log_prob(x)[0]), -math.log(3))
    assert torch.equal(lm.log_prob(x), before)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((0, 5), "must be at least 1, got 0 and 5"),
        ((3, 0), "must be at least 1, got 3 and 0"),
        ((10, 6), "give 1,111,111 outcomes"),
    ],
)
def test_sizes_are_checked(sizes, message):
    with pytest.raises(ConfigError, match=message):
        TabularLM(*sizes)


def test_damaged_files_are_refused(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(CheckpointError, match="no readable tabular model"):
        TabularLM.load(tmp_path)
    save_file({"logits": torch.zeros(2, 2)}, tmp_path / "tabular.safetensors")
    with pytest.raises(CheckpointError, match="no readable tabular model"):
        TabularLM.load(tmp_path)
    TabularLM(2, 3).save(tmp_path)
    file = tmp_path / "tabular.safetensors"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(CheckpointError, match="no readable tabular model"):
        TabularLM.load(tmp_path)
