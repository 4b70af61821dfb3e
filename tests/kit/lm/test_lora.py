"""Low-rank adapters: the same law at first, few parameters that move, and folders others read."""

import logging

import pytest
import torch

from esscher.align.config import FitConfig
from esscher.align.fit import fit
from esscher.core import Reward, Target
from esscher.errors import ConfigError
from esscher.kit.lm.hf import TransformersLM
from esscher.kit.lm.language_model import LanguageModel
from esscher.kit.lm.lora import ADAPTER, has_adapters
from esscher.kit.lm.with_lora import with_lora
from esscher.kit.runs.folder import Run
from tests.kit.lm.models import HF_KINDS, every_sequence, hf, small, vocab_of
from tests.worlds import seeded

each = pytest.mark.parametrize("kind", HF_KINDS)


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    for name in ("transformers", "huggingface_hub"):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.ERROR)


def base(lm):
    return {k: v for k, v in lm.model.state_dict().items() if "lora" not in k}


def moved(lm, scale=0.3):
    rng = seeded(1)
    with torch.no_grad():
        for p in lm.module().parameters():
            p.add_(scale * torch.randn(p.shape, generator=rng))
    return lm


@each
def test_fresh_adapters_change_nothing_but_what_is_trained(kind, no_global_state):
    lm = hf(kind)
    adapted = with_lora(lm, 2)
    assert isinstance(adapted, LanguageModel)
    x = every_sequence(vocab_of(lm), 3)
    assert torch.equal(adapted.log_prob(x), lm.log_prob(x))
    assert all(p.requires_grad for p in lm.model.parameters())
    assert not has_adapters(lm.model)
    names = [n for n, p in adapted.model.named_parameters() if p.requires_grad]
    assert names
    assert all("lora" in name for name in names)
    assert len(list(adapted.module().parameters())) == len(names)
    again = with_lora(lm, 2)
    pairs = zip(adapted.module().parameters(), again.module().parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    other = with_lora(lm, 2, seed=1)
    pairs = zip(adapted.module().parameters(), other.module().parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)


@each
def test_frozen_weights_are_shared_and_adapters_are_not(kind):
    lm = hf(kind)
    adapted = with_lora(lm, 2)
    twin = moved(adapted.clone())
    x = every_sequence(vocab_of(lm), 3)
    assert torch.equal(adapted.log_prob(x), lm.log_prob(x))
    assert float((twin.log_prob(x) - lm.log_prob(x)).abs().max()) > 0.01
    known = {p.data_ptr() for p in lm.model.parameters()}
    frozen = [p for p in twin.model.parameters() if not p.requires_grad]
    assert {p.data_ptr() for p in frozen} == known
    assert twin.recipe == adapted.recipe != lm.recipe


@each
def test_a_fit_moves_the_adapters_only_and_resumes(kind, tmp_path, no_global_state):
    prior = hf(kind, max_new=4)
    before = {k: v.clone() for k, v in base(prior).items()}
    target = Target(prior, Reward(lambda texts: [float(t.count("a")) for t in texts]))
    config = FitConfig("forward_kl", steps=6, batch=32, lr=0.02, check_every=2)
    found = fit(with_lora(prior, 2), target, config=config)
    run = Run.create(tmp_path, "align", "fit", "lora", config=config, seed=0)

    def stop(done, *_):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(with_lora(prior, 2), target, config=config, run=run, save_every=3, on_step=stop)
    assert all(torch.equal(v, before[k]) for k, v in base(prior).items())
    x = every_sequence(vocab_of(prior), 3)
    assert float((found.policy.log_prob(x) - prior.log_prob(x)).abs().max()) > 1e-3
    stored = run.resume(3)[1]
    assert all("lora" in name for name in stored["policy"])
    again = fit(with_lora(prior, 2), target, config=config, run=Run.open(run.path, config))
    assert torch.equal(again.policy.log_prob(x), found.policy.log_prob(x))
    assert again.history == found.history


@each
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
def test_what_is_saved_reads_as_a_plain_model_and_with_peft(kind, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    lm = moved(with_lora(hf(kind, max_new=3), 2, alpha=3.0))
    lm.save(tmp_path)
    x = every_sequence(vocab_of(lm), 3)
    again = TransformersLM.load(tmp_path)
    assert not has_adapters(again.model)
    torch.testing.assert_close(again.log_prob(x), lm.log_prob(x), atol=1e-4, rtol=0)
    assert has_adapters(lm.model)
    hf(kind, max_new=3).save(tmp_path / "base")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    read = PeftModel.from_pretrained(plain, tmp_path / ADAPTER).eval()
    ids = torch.tensor([[1, 2, 3]])
    torch.testing.assert_close(read(ids).logits, lm.model(ids).logits, atol=1e-5, rtol=0)


def test_half_precision_weights_have_adapters_in_single():
    lm = hf("llama")
    lm.model.bfloat16()
    adapted = with_lora(lm, 2)
    assert {p.dtype for p in adapted.module().parameters()} == {torch.float32}
    moved(adapted)
    drawn = adapted.sample(8, rng=seeded(0))
    assert float((adapted.log_prob(drawn.x) - drawn.log_prob).abs().max()) < 0.4


def test_what_cannot_be_adapted():
    with pytest.raises(ConfigError, match="for transformers models, got a SmallLM"):
        with_lora(small(), 2)
    with pytest.raises(ConfigError, match="a rank of at least 1 and a positive alpha, got 0"):
        with_lora(hf("gpt2"), 0)
    with pytest.raises(ConfigError, match="positive alpha, got 2 and -1"):
        with_lora(hf("gpt2"), 2, -1.0)
    with pytest.raises(ConfigError, match="has adapters already"):
        with_lora(with_lora(hf("gpt2"), 2), 2)
