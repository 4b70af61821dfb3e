"""Engines draw from the model's own law, its log-probabilities are used, and the gap is told."""

import sys
import types
from typing import ClassVar

import pytest
import torch

from esscher.align import FitConfig, fit
from esscher.core import Reward, Target
from esscher.core.law import Draws
from esscher.errors import ConfigError, MissingExtra, NumericsError
from esscher.kit.lm.engine import Engine, taken_gap
from esscher.kit.lm.engines import get_engine
from esscher.kit.lm.hf import TransformersLM
from esscher.kit.lm.loading import load_language_model
from esscher.kit.lm.model_options import ModelOptions
from esscher.kit.lm.transformers_engine import with_transformers
from esscher.kit.lm.with_lora import with_lora
from tests.kit.lm.models import HF_KINDS, every_sequence, hf, small

PROMPTS = ["a", "bbc", "", "ca"]


def engined(kind, name="transformers", **settings):
    lm = hf(kind, **settings)
    lm.engine = get_engine(name)
    return lm


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def shifted(law, prompts, max_new, rng):
    """An engine that says 0.25 nats too much of every draw, and 2 of the first."""
    x, log_prob = with_transformers(law, prompts, max_new, rng)
    return x, log_prob + 0.25 + 1.75 * (torch.arange(len(log_prob)) == 0)


@pytest.mark.parametrize("kind", HF_KINDS)
def test_draws_of_generate_follow_the_law(kind):
    lm = engined(kind)
    every = every_sequence(lm.model.config.vocab_size, 3)
    law = lm.log_prob(every, context="ab").exp()
    x = lm.sample(4000, context="ab", rng=rng()).x
    place = {tuple(row): i for i, row in enumerate(every.lists())}
    seen = torch.bincount(torch.tensor([place[tuple(r)] for r in x.lists()]), minlength=len(law))
    wanted = 4000 * law
    big = wanted > 5
    chi2 = float(((seen - wanted)[big] ** 2 / wanted[big]).sum())
    n = int(big.sum())
    assert chi2 < n + 4 * (2 * n) ** 0.5


@pytest.mark.parametrize("kind", HF_KINDS)
def test_prompts_of_any_length_share_a_batch_and_are_scored_again(kind):
    lm = engined(kind)
    contexts = [PROMPTS[i % 4] for i in range(40)]
    before = torch.get_rng_state()
    x, log_prob = lm.sample(40, context=contexts, rng=rng())
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(log_prob, lm.log_prob(x, context=contexts))
    assert 0.0 <= taken_gap(lm) < 1e-4
    assert taken_gap(lm) is None
    again = lm.sample(40, context=contexts, rng=rng())
    assert again.x.lists() == x.lists()
    assert lm.sample(40, context=contexts, rng=rng(1)).x.lists() != x.lists()


def test_many_draws_come_in_batches_that_fit_into_memory(monkeypatch):
    monkeypatch.setattr("esscher.kit.lm.transformers_engine.LOGITS_BYTES", 8 * 3 * 4 * 7)
    lm = engined("gpt2")
    contexts = [PROMPTS[i % 4] for i in range(25)]
    x, log_prob = lm.sample(25, context=contexts, rng=rng())
    assert len(x) == 25
    assert torch.equal(log_prob, lm.log_prob(x, context=contexts))


def test_the_worst_draw_of_all_calls_is_the_gap():
    lm = hf("gpt2")
    lm.engine = Engine("shifted", lambda *args: Draws(*shifted(*args)))
    lm.sample(5, rng=rng())
    lm.sample(1, rng=rng(1))
    assert taken_gap(lm, lm.clone()) == pytest.approx(2.0, abs=1e-4)


@pytest.mark.parametrize("proposal", ["auto", "mixture", "replay"])
def test_a_fit_logs_the_gap_and_trains_on_the_laws_own_numbers(proposal):
    lm = engined("gpt2")
    target = Target(lm, Reward(lambda texts: [t.count("a") for t in texts], beta=1.0))
    config = FitConfig("vargrad", proposal, steps=4, batch=16, lr=1e-3)
    found = fit(lm, target, config=config)
    assert all(0.0 <= row["engine_gap"] < 1e-4 for row in found.history)
    own = hf("gpt2")
    plain = fit(own, Target(own, *target.evidence), config=config)
    assert {row["engine_gap"] for row in plain.history} == {None}


def test_adapters_keep_the_engine():
    lm = with_lora(engined("gpt2"), 2)
    assert lm.engine is not None
    x, log_prob = lm.sample(8, rng=rng())
    assert torch.equal(log_prob, lm.log_prob(x))


def test_a_generation_config_that_bends_the_law_is_refused():
    lm = engined("gpt2")
    lm.model.generation_config.repetition_penalty = 1.7
    with pytest.raises(ConfigError, match="generation_config changes its law"):
        lm.sample(30, rng=rng())


def test_damaged_weights_are_named_as_such():
    lm = engined("gpt2")
    lm.engine = Engine("broken", lambda *args: Draws(None, torch.tensor([0.0, torch.nan])))
    with pytest.raises(NumericsError, match="'broken': 1 of 2 draws have log-probability nan"):
        lm.sample(2, rng=rng())


def test_an_engine_is_chosen_where_a_model_is_read(tmp_path):
    hf("gpt2", max_new=5).save(tmp_path / "hf")
    lm = load_language_model(tmp_path / "hf", ModelOptions(engine="transformers"))
    assert lm.engine.name == "transformers"
    assert lm.clone().engine is lm.engine
    assert TransformersLM.load(tmp_path / "hf").engine is None
    small().save(tmp_path / "small")
    with pytest.raises(ConfigError, match="engine is a setting of transformers models"):
        load_language_model(tmp_path / "small", ModelOptions(engine="transformers"))
    with pytest.raises(ConfigError, match="unknown engine 'transformer'; did you mean 'transf"):
        get_engine("transformer")


def test_without_vllm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingExtra, match=r'pip install "esscher\[vllm\]"'):
        get_engine("vllm")


class FakeLLM:
    """Draws like vLLM: from the folder it was told to load, a seed per prompt."""

    loads: ClassVar[list] = []

    def __init__(self, **settings):
        assert settings["generation_config"] == "vllm"
        self._load(settings["model"])

    def _load(self, path):
        self.loads.append(path)
        self.lm = TransformersLM.load(path)

    def collective_rpc(self, method, kwargs):
        assert method == "reload_weights"
        self._load(kwargs["weights_path"])

    def reset_prefix_cache(self):
        self.loads.append("reset")

    def generate(self, prompts, settings, use_tqdm):
        assert not use_tqdm
        return [
            self._answer(p["prompt_token_ids"], s) for p, s in zip(prompts, settings, strict=True)
        ]

    def _answer(self, ids, s):
        assert (s.temperature, s.top_p, s.top_k, s.ignore_eos) == (1.0, 1.0, 0, True)
        assert s.stop_token_ids == [self.lm.end]
        x, _ = self.lm._draw([ids], s.max_tokens, rng(s.seed))
        row = x.lists()[0]
        steps = []
        for t, token in enumerate(row):
            logits = self.lm.model(torch.tensor([[*ids, *row[:t]]])).logits[0, -1]
            value = float(logits.detach().log_softmax(-1)[token])
            steps.append({token: types.SimpleNamespace(logprob=value)})
        out = types.SimpleNamespace(token_ids=row, logprobs=steps)
        return types.SimpleNamespace(outputs=[out])


@pytest.fixture
def fake_vllm(monkeypatch):
    FakeLLM.loads.clear()
    module = types.ModuleType("vllm")
    module.LLM = FakeLLM
    module.SamplingParams = types.SimpleNamespace
    monkeypatch.setitem(sys.modules, "vllm", module)


@torch.no_grad()
def test_vllm_gets_the_weights_whenever_they_moved(fake_vllm):
    lm = engined("llama", "vllm")
    contexts = [PROMPTS[i % 4] for i in range(12)]
    x, log_prob = lm.sample(12, context=contexts, rng=rng())
    assert torch.equal(log_prob, lm.log_prob(x, context=contexts))
    assert taken_gap(lm) < 1e-4
    lm.sample(3, rng=rng())
    assert len(FakeLLM.loads) == 1
    for p in lm.model.parameters():
        p.add_(0.1)
    x, log_prob = lm.sample(12, context=contexts, rng=rng())
    assert FakeLLM.loads[1:] == [FakeLLM.loads[0], "reset"]
    assert taken_gap(lm) < 1e-4


def test_vllm_trains(fake_vllm):
    lm = engined("gpt2", "vllm")
    target = Target(lm, Reward(lambda texts: [t.count("a") for t in texts], beta=1.0))
    found = fit(lm, target, "reverse_kl", steps=3, batch=8, lr=1e-2)
    assert all(row["engine_gap"] < 1e-4 for row in found.history)
    assert len(set(FakeLLM.loads)) == 2
