"""What the flags about transformers models change, from options to the policy that is trained."""

import logging

import pytest
import torch

from esscher.align.options import CompareOptions, FitOptions
from esscher.align.run import model_of, prepare
from esscher.errors import ConfigError
from esscher.kit.lm.lora import has_adapters
from esscher.kit.runs.output import Output
from tests.kit.lm.models import hf, small


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    for name in ("transformers", "huggingface_hub"):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.ERROR)


@pytest.fixture
def folder(tmp_path):
    lm = hf("llama", max_new=4)
    lm.tokenizer.chat_template = "{% for m in messages %}a{{ m['content'] }}b{% endfor %}"
    lm.save(tmp_path / "model")
    return str(tmp_path / "model")


def options(folder, **settings):
    return FitOptions(prior=folder, condition=("has_return",), **settings)


def prepared(folder, monkeypatch, **settings):
    # What is measured on the way does not matter here, and needs texts that return.
    monkeypatch.setattr("esscher.align.run.make_watcher", lambda *_, **__: lambda *_: {})
    return prepare(options(folder, **settings), Output(quiet=True))


def test_adapters_on_request(folder, monkeypatch):
    plain = prepared(folder, monkeypatch)
    assert plain.policy is plain.prior
    found = prepared(folder, monkeypatch, lora_rank=3, lora_alpha=1.5)
    assert has_adapters(found.policy.model)
    assert not has_adapters(found.prior.model)
    shapes = [min(p.shape) for p in found.policy.module().parameters()]
    assert set(shapes) == {3}
    with pytest.raises(ConfigError, match="lora_alpha=2 scales adapters, and there are none"):
        prepared(folder, monkeypatch, lora_alpha=2.0)


def test_where_a_model_lives(folder):
    own = "cuda" if torch.cuda.is_available() else "cpu"
    for name, kind in (("auto", own), ("cpu", "cpu")):
        lm = model_of(folder, None, options(folder, device=name).model_options())
        assert lm.model.device.type == kind
    for name in ("gpu", "cuda:99"):
        with pytest.raises(ConfigError, match=f"device '{name}' cannot be used here"):
            model_of(folder, None, options(folder, device=name).model_options())


def test_an_engine_is_named(folder, monkeypatch):
    found = prepared(folder, monkeypatch, engine="transformers")
    assert found.prior.engine.name == "transformers"
    assert found.policy.engine is found.prior.engine


def test_how_the_model_is_read(folder, monkeypatch):
    found = prepared(folder, monkeypatch, dtype="bfloat16", checkpointing=True, chat=True).prior
    assert next(found.module().parameters()).dtype == torch.bfloat16
    assert found.prompts(["c"], 1) == hf("llama").prompts(["acb"], 1)
    assert any(getattr(m, "gradient_checkpointing", False) for m in found.model.modules())
    other = model_of(folder, found, options(folder, dtype="bfloat16").model_options())
    assert next(other.module().parameters()).dtype == torch.bfloat16


def test_a_model_of_ours_takes_none_of_it(tmp_path, monkeypatch):
    small().save(tmp_path)
    with pytest.raises(ConfigError, match="dtype is a setting of transformers models"):
        prepared(str(tmp_path), monkeypatch, dtype="bfloat16")
    with pytest.raises(ConfigError, match="low-rank adapters are for transformers models"):
        prepared(str(tmp_path), monkeypatch, lora_rank=2)
    with pytest.raises(ConfigError, match="a model of ours; leave out chat"):
        prepared("builtin:stdlib", monkeypatch, chat=True)


def test_a_steered_beta_reaches_the_training_settings():
    assert options("x", objective="reverse_kl", kl_target=2.0).config().kl_target == 2.0
    assert CompareOptions().kl_target is None
