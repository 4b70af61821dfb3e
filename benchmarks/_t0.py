"""Configuration T0: a two-layer model over characters, eight prompts, reward = share of 'a'.

The small GPT and the transformers model have the same shape (width 64, two layers, two heads, 64
ids, 64 positions); every system sees the same prompts, each behind the start token.
"""

from __future__ import annotations

import os
import string
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch

from esscher.core import Reward, Target
from esscher.kit.lm.causal import SmallLM
from esscher.kit.lm.gpt import GPT, GPTConfig
from esscher.kit.lm.hf import TransformersLM

END = "<e>"
LETTERS = string.ascii_lowercase + string.ascii_uppercase + string.digits + "."
PROMPTS = ("ab", "cd", "ef", "gh", "ij", "kl", "mn", "op")
PER_PROMPT = 8
MAX_NEW = 16
BETA = 0.1
PIP = "pip install torch==2.13.0 trl==1.16.0 transformers==5.23.0"


class CharTokenizer:
    """One id per character, 0 for the end: the methods `SmallLM` asks of a tokenizer."""

    vocab_size = len(LETTERS) + 1

    def encode(self, texts):
        return [[LETTERS.index(c) + 1 for c in text] for text in texts]

    def decode(self, ids):
        return ["".join(LETTERS[i - 1] for i in row if i) for row in ids]

    def to_json(self):
        return "{}"


def share_of_a(text: str) -> float:
    """Of the `MAX_NEW` places a completion may fill, so that ending early does not pay."""
    return text.count("a") / MAX_NEW


def reward(texts):
    return [share_of_a(text) for text in texts]


def trl_reward(completions, **_: Any):
    return reward(completions)


def target_of(prior):
    return Target(prior, Reward(reward, beta=BETA))


def small_lm() -> SmallLM:
    shape = GPTConfig(len(LETTERS) + 1, 64, width=64, layers=2, heads=2)
    network = GPT(shape, rng=torch.Generator().manual_seed(0))
    return SmallLM(network, CharTokenizer(), MAX_NEW)


def hf_tokenizer():
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    vocab = {letter: i for i, letter in enumerate([END, *LETTERS])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=END, padding_side="left"
    )


def hf_model():
    from transformers import GPT2Config, GPT2LMHeadModel

    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    drop = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    shape = {"vocab_size": len(LETTERS) + 1, "n_embd": 64, "n_layer": 2, "n_head": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return GPT2LMHeadModel(GPT2Config(n_positions=64, **shape, **drop, **ends))


def hf_lm() -> TransformersLM:
    return TransformersLM.from_model(hf_model(), hf_tokenizer(), MAX_NEW)


def trl_missing() -> bool:
    try:
        import trl  # noqa: F401
    except ImportError:
        return True
    return False


def trl_trainer(kind: str, steps: int, *, lr: float, callback: Any, seed: int = 0, **settings: Any):
    """A GRPO or RLOO trainer on T0, everything but the batch shape and beta at its default.

    The reference model is read back from `config._name_or_path`, so the model is saved first.
    """
    import datasets
    import trl
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    datasets.disable_progress_bars()
    folder = Path(tempfile.mkdtemp(prefix="t0-"))
    hf_model().save_pretrained(folder / "model")
    config = getattr(trl, f"{kind}Config")(
        output_dir=str(folder / "out"),
        per_device_train_batch_size=len(PROMPTS) * PER_PROMPT,
        num_generations=PER_PROMPT,
        max_completion_length=MAX_NEW,
        max_steps=steps,
        beta=BETA,
        learning_rate=lr,
        lr_scheduler_type="constant",
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        seed=seed,
        **settings,
    )
    return getattr(trl, f"{kind}Trainer")(
        model=AutoModelForCausalLM.from_pretrained(folder / "model"),
        reward_funcs=trl_reward,
        args=config,
        train_dataset=datasets.Dataset.from_list([{"prompt": END + p} for p in PROMPTS]),
        processing_class=hf_tokenizer(),
        callbacks=[callback],
    )


def at_steps(action: Callable[[int], None]):
    """A transformers callback that calls `action(steps done)` after every step."""
    from transformers import TrainerCallback

    class AtSteps(TrainerCallback):
        def on_step_end(self, args, state, control, **_: Any):
            action(state.global_step)

    return AtSteps()
