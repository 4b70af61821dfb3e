"""The `transformers` adapter: folders, special tokens, precision, and what it refuses."""

import json
import logging
import shutil
import subprocess
import sys

import pytest
import torch

from esscher.errors import CheckpointError, ConfigError, MissingExtra, NumericsError
from esscher.kit.lm import hf_folder
from esscher.kit.lm.hf import TransformersLM
from esscher.kit.lm.model_options import ModelOptions
from tests.kit.lm.models import HF_KINDS, hf, hf_network, hf_tokenizer, sharpen, slow_log_prob


@pytest.fixture(scope="module", autouse=True)
def quiet():
    loggers = [logging.getLogger(name) for name in ("transformers", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture
def saved(tmp_path):
    hf("gpt2", max_new=5).save(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("kind", HF_KINDS)
def test_a_saved_model_comes_back_and_reads_with_plain_transformers(kind, tmp_path):
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    lm = hf(kind, max_new=5)
    x = lm.sample(20, context="ab", rng=torch.Generator().manual_seed(0)).x
    lm.save(tmp_path)
    before = torch.get_rng_state(), torch.get_default_dtype()
    again = TransformersLM.load(tmp_path)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == torch.get_default_dtype()
    assert again.max_new == 5
    assert TransformersLM.load(str(tmp_path), ModelOptions(max_new=7)).max_new == 7
    assert torch.equal(again.log_prob(x, context="ab"), lm.log_prob(x, context="ab"))
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(plain(ids).logits, lm.model(ids).logits)
    assert PreTrainedTokenizerFast.from_pretrained(tmp_path)("abc")["input_ids"] == [1, 2, 3]
    assert again.tokenizer.get_vocab() == lm.tokenizer.get_vocab()


def test_a_folder_from_elsewhere_gets_the_default_length(saved):
    (saved / "esscher.json").unlink()
    assert TransformersLM.load(saved).max_new == 24
    with pytest.raises(ConfigError, match="max_new=25 exceeds the model's context of 24"):
        TransformersLM.load(saved, ModelOptions(max_new=25))
    with pytest.raises(ConfigError, match="max_new must be at least 1, got 0"):
        TransformersLM.load(saved, ModelOptions(max_new=0))


def test_start_token_is_bos_else_eos_and_never_doubled():
    llama, gpt2 = hf("llama"), hf("gpt2")
    assert (llama.start, llama.end, gpt2.start, gpt2.end) == (4, 0, 0, 0)
    x = llama.encode(["ab"])
    assert llama.log_prob(x, context="<s>c").item() == llama.log_prob(x, context="c").item()
    assert llama.log_prob(x, context="<s><s>c").item() != llama.log_prob(x, context="c").item()


def test_special_names_are_ids_in_prompts_and_text_in_completions():
    lm = TransformersLM.from_model(hf_network("gpt2", 8), hf_tokenizer("abc<>e"), 6)
    with torch.no_grad():
        inside = slow_log_prob(lm, [1, 0], [1, 0, 2])
    assert float(lm.log_prob(lm.encode(["a"]), context="a<e>b")[0]) == pytest.approx(
        float(inside), abs=1e-5
    )
    assert lm.encode(["<e>"]).lists() == [[4, 6, 5, 0]]


def test_generation_config_is_never_consulted():
    lm = hf("gpt2", max_new=6)
    rng = torch.Generator
    free = lm.sample(50, rng=rng().manual_seed(0))
    settings = lm.model.generation_config
    settings.temperature, settings.top_k, settings.min_length, settings.do_sample = 0.1, 1, 6, False
    bound = lm.sample(50, rng=rng().manual_seed(0))
    assert torch.equal(free.x.tokens, bound.x.tokens)


def test_dropout_stays_off_while_training():
    from transformers import GPT2Config, GPT2LMHeadModel

    with torch.random.fork_rng(devices=[]):
        network = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=4, n_embd=16, n_layer=1, n_head=2, resid_pdrop=0.5, embd_pdrop=0.5
            )
        )
    sharpen(network)
    lm = TransformersLM.from_model(network, hf_tokenizer(), 4)
    x, log_prob = lm.sample(10, rng=torch.Generator().manual_seed(0))
    lm.module().train()
    torch.testing.assert_close(lm.log_prob(x), log_prob, atol=1e-5, rtol=0)
    lm.module().train()
    again = lm.sample(10, rng=torch.Generator().manual_seed(0))
    assert torch.equal(again.log_prob, log_prob)
    lm.module().train()
    ((index, graph),) = lm.log_prob_chunks(x)
    torch.testing.assert_close(graph.detach(), log_prob[index], atol=1e-5, rtol=0)


def test_half_precision_weights_give_float32_sums():
    lm = TransformersLM.from_model(hf_network("llama").bfloat16(), hf_tokenizer(), 3)
    x, log_prob = lm.sample(20, rng=torch.Generator().manual_seed(0))
    logits = lm.model(torch.tensor([[0, *x.lists()[0][:-1]]])).logits[0].detach()
    assert logits.dtype == torch.bfloat16
    steps = torch.log_softmax(logits.float(), -1)
    by_hand = sum(float(steps[t, token]) for t, token in enumerate(x.lists()[0]))
    assert float(lm.log_prob(x.take(torch.tensor([0])))[0]) == pytest.approx(by_hand, abs=1e-5)
    assert float((lm.log_prob(x) - log_prob).abs().max()) < 0.2


def test_more_model_ids_than_tokenizer_ids_is_lawful():
    lm = TransformersLM.from_model(hf_network("qwen2", 7), hf_tokenizer(), 8)
    x = lm.sample(40, rng=torch.Generator().manual_seed(0)).x
    assert max(max(row) for row in x.lists()) > 3
    assert all(set(text) <= set("abc") for text in lm.items(x))


def test_a_cache_that_disagrees_is_refused(monkeypatch):
    network = hf_network("gpt2")
    forward = type(network).forward

    def faulty(self, *args, use_cache=True, **inputs):
        output = forward(self, *args, use_cache=use_cache, **inputs)
        output.logits[..., 1] += 0.01 * use_cache
        return output

    monkeypatch.setattr(type(network), "forward", faulty)
    with pytest.raises(NumericsError, match="decoding with the cache and scoring without"):
        TransformersLM.from_model(network, hf_tokenizer(), 4)


@pytest.mark.parametrize(
    ("tokenizer", "max_new", "message"),
    [
        ({}, 0, "max_new must be at least 1, got 0"),
        ({}, 25, "max_new=25 exceeds the model's context of 24"),
        ({"letters": "abcd"}, 3, "the tokenizer has 5 ids, the model only 4"),
        ({"eos_token": None, "pad_token": None}, 3, "has no EOS token"),
    ],
)
def test_settings_that_cannot_work(tokenizer, max_new, message):
    with pytest.raises(ConfigError, match=message):
        TransformersLM(hf_network("gpt2"), hf_tokenizer(**tokenizer), max_new)


def test_missing_files_are_listed(saved, tmp_path):
    with pytest.raises(CheckpointError, match="found nothing"):
        TransformersLM.load(tmp_path / "absent")
    (saved / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"found only .*config\.json.*tokenizer\.json"):
        TransformersLM.load(saved)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_damaged_files_are_refused(saved, name):
    (saved / name).write_bytes(b"{ damaged")
    with pytest.raises(CheckpointError, match="not a readable transformers folder"):
        TransformersLM.load(saved)


def test_damaged_settings_are_refused(saved):
    (saved / "esscher.json").write_text("[]")
    with pytest.raises(CheckpointError, match="not a readable transformers folder"):
        TransformersLM.load(saved)


def test_absent_tensors_are_not_filled_with_random_numbers(saved):
    config = json.loads((saved / "config.json").read_text())
    config["n_layer"] = 2
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"lack \d+ tensors of the model, such as"):
        TransformersLM.load(saved)


def test_a_folder_without_tokenizer_is_refused(saved):
    (saved / "tokenizer.json").unlink()
    with pytest.raises(
        CheckpointError, match=r"a tokenizer .*; found only .*tokenizer_config.json"
    ):
        TransformersLM.load(saved)


def test_missing_transformers_names_the_extra(saved, monkeypatch):
    def refuse(module, extra):
        raise MissingExtra(f'{module} is not installed; run: pip install "esscher[{extra}]"')

    monkeypatch.setattr(hf_folder, "require", refuse)
    with pytest.raises(MissingExtra, match=r"esscher\[lm\]"):
        TransformersLM.load(saved)


def test_importing_the_room_leaves_transformers_alone():
    names = ["builtin", "causal", "hf", "hf_network", "loading", "pretrain", "tabular"]
    code = (
        f"import sys, importlib\nfor n in {names}: importlib.import_module('esscher.kit.lm.' + n)\n"
        "assert not {'transformers', 'tokenizers', 'peft'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_pieces_of_a_folder_do_not_mix(saved, tmp_path):
    other = tmp_path / "other"
    TransformersLM(hf_network("gpt2", 4), hf_tokenizer(), 3).save(other)
    TransformersLM(hf_network("gpt2", 9), hf_tokenizer("abcdefg"), 3).save(tmp_path / "large")
    shutil.copy(tmp_path / "large" / "tokenizer.json", other / "tokenizer.json")
    with pytest.raises(ConfigError, match="the tokenizer has 8 ids, the model only 4"):
        TransformersLM.load(other)
