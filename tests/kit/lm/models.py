"""Tiny models whose laws can be enumerated or recomputed slowly."""

import itertools
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers import models as token_models

from esscher.kit.lm.causal import SmallLM
from esscher.kit.lm.gpt import GPT, GPTConfig
from esscher.kit.lm.hf import TransformersLM
from esscher.kit.lm.sequences import Sequences
from esscher.kit.lm.tokenizer import END_TEXT, BytePairTokenizer

HF_KINDS = ("gpt2", "llama", "qwen2")
KINDS = ("small", *HF_KINDS)
BOS = 4
"""Id of Llama's start token in the toy vocabulary; the others start with id 0, the end."""


def byte_tokenizer(letters, *special):
    vocab = {name: i for i, name in enumerate([special[0], *letters, *special[1:]])}
    tokenizer = Tokenizer(token_models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def sharpen(module, seed=0, scale=0.5):
    """Random weights large enough that the next-token law is far from uniform."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            if p.ndim == 2:
                p.normal_(0.0, scale, generator=rng)


def small(max_new=3, letters="abc", seed=0, context=24):
    tokenizer = byte_tokenizer(letters, END_TEXT)
    tokenizer.add_special_tokens([END_TEXT])
    shape = GPTConfig(len(letters) + 1, context, width=16, layers=1, heads=2)
    network = GPT(shape, rng=torch.Generator().manual_seed(0))
    sharpen(network, seed)
    return SmallLM(network, BytePairTokenizer(tokenizer), max_new)


def small_bytes(max_new=12, seed=0):
    """Width 16, one layer, 257 ids: every byte and the end."""
    tokenizer = BytePairTokenizer.train(["a text", "another"], 257)
    network = GPT(
        GPTConfig(300, 64, width=16, layers=1, heads=2), rng=torch.Generator().manual_seed(0)
    )
    sharpen(network, seed)
    return SmallLM(network, tokenizer, max_new)


def hf_tokenizer(letters="abc", bos=None, **settings):
    from transformers import PreTrainedTokenizerFast

    special = ("<e>",) if bos is None else ("<e>", bos)
    return PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer(letters, *special),
        **{"eos_token": "<e>", "pad_token": "<e>", "bos_token": bos, **settings},
    )


def hf_network(kind, vocab_size=4, seed=0, positions=24):
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
        Qwen2Config,
        Qwen2ForCausalLM,
    )

    gated = {
        "vocab_size": vocab_size,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": positions,
    }
    with torch.random.fork_rng(devices=[]):
        if kind == "gpt2":
            shape = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": positions}
            model = GPT2LMHeadModel(
                GPT2Config(vocab_size=vocab_size, bos_token_id=0, eos_token_id=0, **shape)
            )
        elif kind == "llama":
            model = LlamaForCausalLM(LlamaConfig(**gated))
        else:
            model = Qwen2ForCausalLM(Qwen2Config(**gated, tie_word_embeddings=True))
    sharpen(model, seed)
    return model


def hf(kind, max_new=3, seed=0, positions=24):
    """GPT-2 (pad = EOS, no BOS), Llama (with BOS) or Qwen2 (tied) over the letters a, b, c."""
    bos = "<s>" if kind == "llama" else None
    network = hf_network(kind, 5 if bos else 4, seed, positions)
    return TransformersLM.from_model(network, hf_tokenizer(bos=bos), max_new)


def build(kind, **settings):
    return small(**settings) if kind == "small" else hf(kind, **settings)


def start_of(lm):
    return 0 if isinstance(lm, SmallLM) else lm.start


def vocab_of(lm):
    if isinstance(lm, SmallLM):
        return lm.network.config.vocab_size
    return lm.model.config.vocab_size


def full_logits(lm, ids):
    """[t, V] logits of one sequence by a plain forward pass without cache or padding."""
    output = lm.module()(torch.tensor([ids]))
    return (output if isinstance(output, torch.Tensor) else output.logits)[0]


def slow_log_prob(lm, ids, prompt=()):
    """A sequence's log-probability from one pass of its own, summed token by token in float64."""
    before = [start_of(lm), *prompt]
    steps = torch.log_softmax(full_logits(lm, [*before, *ids]).double(), -1)
    total = torch.zeros((), dtype=torch.float64)
    for t, token in enumerate(ids):
        total = total + steps[len(before) - 1 + t, token]
    return total


def every_sequence(vocab_size, max_new, end=0):
    """All outcomes of a law: ended within max_new tokens, or cut there."""
    letters = [i for i in range(vocab_size) if i != end]
    ended = [[*s, end] for t in range(max_new) for s in itertools.product(letters, repeat=t)]
    rows = ended + [list(s) for s in itertools.product(letters, repeat=max_new)]
    lengths = torch.tensor([len(r) for r in rows])
    tokens = torch.tensor([r + [end] * (max_new - len(r)) for r in rows])
    finished = torch.tensor([r[-1] == end for r in rows])
    return Sequences(tokens, lengths, finished)
