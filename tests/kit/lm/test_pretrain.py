"""Maximum likelihood on a corpus small enough to learn by heart."""

import dataclasses
import math

import pytest
import torch

from esscher.errors import ConfigError, DataError, NumericsError
from esscher.kit.lm.pretrain import PretrainConfig, batch_size, cosine_lr, pretrain

TEXTS = [f"def f{i % 7}(x):\n    return x + {i}" for i in range(60)]
TINY = PretrainConfig(
    vocab_size=300,
    width=16,
    layers=1,
    heads=2,
    steps=40,
    batch=16,
    last_batch=16,
    lr=1e-2,
    matrix_lr=1e-2,
    warmup=4,
)


def test_the_loss_falls_well_below_uniform():
    losses = []
    model, held_out = pretrain(TEXTS, TINY, lambda step, loss: losses.append((step, loss)))
    assert [step for step, _ in losses] == list(range(1, 41))
    assert losses[0][1] == pytest.approx(math.log(300), abs=0.3)
    assert losses[-1][1] < 0.6 * losses[0][1]
    assert held_out < 0.7 * math.log(300)
    assert model.max_new == max(len(ids) for ids in model.tokenizer.encode(TEXTS)) + 1
    assert model.network.config.context == model.max_new + 32


def test_the_seed_decides_everything():
    before = torch.get_rng_state()
    short = dataclasses.replace(TINY, steps=5)
    (first, a), (again, b) = pretrain(TEXTS, short), pretrain(TEXTS, short)
    other, c = pretrain(TEXTS, dataclasses.replace(short, seed=1))
    assert a == b != c
    for p, q in zip(first.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(p, q)
    assert not torch.equal(
        first.network.position.weight[0, :4], other.network.position.weight[0, :4]
    )
    assert torch.equal(before, torch.get_rng_state())


def test_the_held_out_loss_is_on_texts_never_trained_on():
    """However large the share held out, one text is left to train on."""
    config = dataclasses.replace(TINY, steps=5, held_out=0.99)
    model, held_out = pretrain(TEXTS, config)
    trained = TEXTS[torch.randperm(60, generator=torch.Generator().manual_seed(0))[-1]]
    rest = [text for text in TEXTS if text != trained]
    x = model.encode(rest)
    assert held_out == pytest.approx(float(-model.log_prob(x).sum() / x.lengths.sum()), abs=1e-6)


def test_the_learning_rate_rises_then_falls_to_the_floor():
    rates = [cosine_lr(t, 100, 2.0, 10, 0.1) for t in range(101)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9] == pytest.approx(2.0)
    assert rates[10] == pytest.approx(2.0)
    assert rates[55] == pytest.approx(1.1)
    assert rates[100] == pytest.approx(0.2)
    assert cosine_lr(0, 100, 2.0, 0, 0.1) == 2.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"last_batch": 0}, "last_batch must be at least 1, got 0"),
        ({"warmup": -1}, "warmup must not be negative, got -1"),
        ({"prompt_room": -1}, "prompt_room must not be negative, got -1"),
        ({"lr": 0.0}, "lr must be positive, got 0"),
        ({"lr": math.nan}, "lr must be positive, got nan"),
        ({"matrix_lr": -1.0}, "matrix_lr must be positive, got -1"),
        ({"held_out": 0.0}, r"held_out must lie in \(0, 1\), got 0"),
        ({"held_out": 1.0}, r"held_out must lie in \(0, 1\), got 1"),
    ],
)
def test_settings_are_checked(change, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(TINY, **change)


def test_errors_of_data_and_divergence():
    with pytest.raises(DataError, match="at least 20 texts, got 19"):
        pretrain(TEXTS[:19], TINY)
    with pytest.raises(NumericsError, match="pretraining loss is nan after"):
        pretrain(TEXTS, dataclasses.replace(TINY, lr=1e38, warmup=0))


def test_the_batch_changes_linearly_from_the_first_step_to_the_last():
    config = PretrainConfig(steps=5, batch=8, last_batch=4)
    assert [batch_size(step, config) for step in range(5)] == [8, 7, 6, 5, 4]
    assert batch_size(0, PretrainConfig(steps=1, batch=8, last_batch=4)) == 8
