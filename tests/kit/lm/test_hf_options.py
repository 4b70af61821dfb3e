"""How transformers models are read: precision, recomputation, chat, and names on the hub."""

import logging
import shutil

import pytest
import torch
from torch.utils.checkpoint import _CheckpointFrame

from esscher.errors import CheckpointError, ConfigError
from esscher.kit.lm.hf import TransformersLM
from esscher.kit.lm.loading import load_language_model
from esscher.kit.lm.model_options import ModelOptions
from tests.kit.lm.models import HF_KINDS, every_sequence, hf, small, vocab_of
from tests.worlds import seeded

each = pytest.mark.parametrize("kind", HF_KINDS)
WRITTEN = "{% for m in messages %}a{{ m['content'] }}b{% endfor %}"
TEMPLATE = WRITTEN + "{% if add_generation_prompt %}c{% endif %}"


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    for name in ("transformers", "huggingface_hub"):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.ERROR)


def counted_recomputations(monkeypatch):
    counted = []
    start = _CheckpointFrame.__init__

    def count(self, *args, **kwargs):
        counted.append(self)
        start(self, *args, **kwargs)

    monkeypatch.setattr(_CheckpointFrame, "__init__", count)
    return counted


def gradient(lm, x):
    lm.module().zero_grad()
    for _, log_prob in lm.log_prob_chunks(x):
        torch.autograd.backward(log_prob.sum())
    return {n: p.grad.clone() for n, p in lm.model.named_parameters() if p.grad is not None}


@each
def test_recomputed_activations_give_the_same_gradient(kind, tmp_path, monkeypatch):
    lm = hf(kind)
    lm.save(tmp_path)
    other = TransformersLM.load(tmp_path, options=ModelOptions(checkpointing=True))
    x = every_sequence(vocab_of(lm), 3)
    assert torch.equal(other.log_prob(x), lm.log_prob(x))
    wanted = gradient(lm, x)
    counted = counted_recomputations(monkeypatch)
    found = gradient(other, x)
    assert counted
    assert wanted.keys() == found.keys()
    for name, value in wanted.items():
        scale = max(1.0, float(value.abs().max()))
        assert float((found[name] - value).abs().max()) <= 1e-6 * scale, name
    drawn = other.clone().sample(16, rng=seeded(0))
    torch.testing.assert_close(lm.log_prob(drawn.x), drawn.log_prob, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("name", "dtype"), [("bfloat16", torch.bfloat16), ("auto", torch.float32)])
def test_weights_are_read_in_the_type_wanted(name, dtype, tmp_path):
    hf("llama").save(tmp_path)
    lm = load_language_model(tmp_path, ModelOptions(dtype=name))
    assert {p.dtype for p in lm.module().parameters()} == {dtype}
    assert lm.log_prob(lm.sample(4, rng=seeded(0)).x).dtype == torch.float64


@each
def test_chat_prompts_follow_the_template_with_one_start_token(kind, tmp_path):
    plain = hf(kind)
    plain.tokenizer.chat_template = TEMPLATE
    plain.save(tmp_path)
    lm = load_language_model(tmp_path, ModelOptions(chat=True))
    assert lm.prompts(["b", "ca"], 2) == plain.prompts(["abbc", "acabc"], 2)
    assert [row.count(lm.start) for row in lm.prompts(["b"], 1)] == [1]
    drawn = lm.sample(5, context="b", rng=seeded(0))
    torch.testing.assert_close(
        plain.log_prob(drawn.x, context="abbc"), drawn.log_prob, atol=1e-4, rtol=0
    )
    assert lm.clone().prompts("b", 1) == lm.prompts("b", 1)
    with pytest.raises(ConfigError, match="a chat model answers messages"):
        lm.sample(2, rng=seeded(0))


def test_a_template_that_is_missing_or_refuses(tmp_path):
    lm = hf("gpt2")
    lm.save(tmp_path)
    with pytest.raises(ConfigError, match="no chat template"):
        load_language_model(tmp_path, ModelOptions(chat=True))
    lm.tokenizer.chat_template = "{{ raise_exception('not today') }}"
    lm.save(tmp_path)
    with pytest.raises(ConfigError, match=r"refuses the prompt 'Hello'.*not today"):
        load_language_model(tmp_path, ModelOptions(chat=True))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (ModelOptions(dtype="bfloat16"), "dtype"),
        (ModelOptions(checkpointing=True), "checkpointing"),
        (ModelOptions(chat=True), "chat"),
    ],
)
def test_models_of_ours_take_no_settings(options, name, tmp_path):
    small().save(tmp_path)
    with pytest.raises(ConfigError, match=f"{name} is a setting of transformers models"):
        load_language_model(tmp_path, options)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub cache that holds org/toy, with the net out of reach."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    folder = tmp_path / "hub" / "models--org--toy"
    commit = "0" * 40
    hf("gpt2").save(tmp_path / "model")
    shutil.copytree(tmp_path / "model", folder / "snapshots" / commit)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    (folder / "refs" / "v1").write_text(commit)
    return folder


@pytest.mark.parametrize("name", ["hf:org/toy", "hf:org/toy@v1"])
def test_a_hub_name_is_read_from_the_cache(name, hub):
    lm = load_language_model(name)
    x = every_sequence(4, 3)
    assert torch.equal(lm.log_prob(x), hf("gpt2").log_prob(x))


@pytest.mark.parametrize("name", ["hf:org/other", "hf:org/toy@v2"])
def test_a_hub_name_that_cannot_be_had(name, hub):
    with pytest.raises(CheckpointError, match="neither in the hub's cache nor to be had"):
        load_language_model(name)


@pytest.mark.parametrize("name", ["hf:toy", "hf:", "hf:org/", "hf:a/b/c"])
def test_names_that_are_none(name):
    with pytest.raises(ConfigError, match="is no hub name"):
        load_language_model(name)
