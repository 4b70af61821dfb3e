"""The small GPT: saving, settings, its network against a plain rewrite."""

import json

import pytest
import torch

from esscher.errors import CheckpointError, ConfigError, MissingExtra
from esscher.kit.lm import tokenizer as tokenizer_module
from esscher.kit.lm.causal import SmallLM
from esscher.kit.lm.gpt import GPT, GPTConfig, KVCache
from tests.kit.lm.models import sharpen, small, small_bytes

FILES = ["config.json", "model.safetensors", "tokenizer.json"]


def test_a_saved_model_is_bit_equal(tmp_path):
    lm = small_bytes()
    lm.save(tmp_path / "new" / "folder")
    again = SmallLM.load(tmp_path / "new" / "folder")
    first, second = (m.sample(30, rng=torch.Generator().manual_seed(0)) for m in (lm, again))
    assert torch.equal(first.x.tokens, second.x.tokens)
    assert torch.equal(first.log_prob, second.log_prob)
    assert lm.items(first.x) == again.items(second.x)
    assert torch.equal(lm.log_prob(first.x), again.log_prob(first.x))


def test_broken_utf8_in_draws_is_readable():
    lm = small_bytes()
    x = lm.sample(100, rng=torch.Generator().manual_seed(0)).x
    texts = lm.items(x)
    assert len(texts) == 100
    assert any("\ufffd" in text for text in texts)


@pytest.mark.parametrize("name", FILES)
def test_missing_and_damaged_files_are_refused(tmp_path, name):
    small().save(tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).unlink()
    with pytest.raises(CheckpointError, match="not a readable model folder"):
        SmallLM.load(tmp_path)
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="not a readable model folder"):
        SmallLM.load(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"max_new": 0},
        {"max_new": "3"},
        {"width": 32},
        {"heads": 3},
        {"unknown": 1},
        {"max_new": 99},
    ],
)
def test_damaged_configurations_are_refused(tmp_path, change):
    small().save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(CheckpointError, match="not a readable model folder"):
        SmallLM.load(tmp_path)


def test_models_of_another_kind_are_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(CheckpointError, match="holds a model of type 'gpt2'"):
        SmallLM.load(tmp_path)


def test_a_missing_tokenizers_package_is_not_called_damage(tmp_path, monkeypatch):
    small().save(tmp_path)

    def refuse(module, extra):
        raise MissingExtra(f"{module} {extra}")

    monkeypatch.setattr(tokenizer_module, "require", refuse)
    with pytest.raises(MissingExtra, match="tokenizers lm"):
        SmallLM.load(tmp_path)


def test_settings_are_checked():
    lm = small()
    for max_new in (0, 25):
        with pytest.raises(ConfigError, match=f"context of 24 tokens, got {max_new}"):
            SmallLM(lm.network, lm.tokenizer, max_new)
    narrow = GPT(GPTConfig(3, width=8, heads=2), rng=torch.Generator())
    with pytest.raises(ConfigError, match="the tokenizer has 4 ids, the network only 3"):
        SmallLM(narrow, lm.tokenizer, 3)
    with pytest.raises(ConfigError, match="heads=3 must divide width=128"):
        GPTConfig(10, heads=3)
    with pytest.raises(ConfigError, match="vocab_size must be at least 1, got 0"):
        GPTConfig(0)


def plain_logits(network, ids):
    """The same network written out: one sequence, explicit softmax attention, no cache."""
    w = network.state_dict()
    config = network.config

    def norm(x, name):
        return torch.nn.functional.layer_norm(x, x.shape[-1:], w[f"{name}.weight"])

    def linear(x, name):
        return x @ w[f"{name}.weight"].T

    t, d = len(ids), config.width
    x = w["embed.weight"][ids] + w["position.weight"][:t]
    hidden = torch.full((t, t), -torch.inf).triu(1)
    for i in range(config.layers):
        q, k, v = linear(norm(x, f"blocks.{i}.norm_1"), f"blocks.{i}.qkv").split(d, 1)
        heads = []
        for part in range(config.heads):
            s = slice(part * d // config.heads, (part + 1) * d // config.heads)
            score = q[:, s] @ k[:, s].T / (d // config.heads) ** 0.5 + hidden
            heads.append(score.softmax(1) @ v[:, s])
        x = x + linear(torch.cat(heads, 1), f"blocks.{i}.project")
        wide = linear(norm(x, f"blocks.{i}.norm_2"), f"blocks.{i}.expand")
        x = x + linear(wide.clamp(min=0) ** 2, f"blocks.{i}.contract")
    return norm(x, "norm") @ w["embed.weight"].T


@pytest.mark.parametrize("layers", [1, 3])
def test_the_network_equals_a_plain_rewrite_with_and_without_cache(layers):
    network = GPT(
        GPTConfig(9, 12, width=12, layers=layers, heads=3), rng=torch.Generator().manual_seed(0)
    )
    sharpen(network)
    ids = torch.tensor([0, 3, 8, 1, 1, 7, 2])
    expected = plain_logits(network, ids)
    with torch.no_grad():
        torch.testing.assert_close(network(ids[None])[0], expected, atol=1e-4, rtol=1e-4)
        cache = KVCache(network.config, 1, 12)
        steps = [network.last_logits(ids[None, :4], cache)]
        cache.select(torch.tensor([0, 0]))
        steps += [network.last_logits(ids[None, t].expand(2, 1), cache)[1:] for t in range(4, 7)]
    torch.testing.assert_close(torch.cat(steps), expected[3:], atol=1e-4, rtol=1e-4)
