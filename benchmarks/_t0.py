"""Configuration T0: a two-layer model over characters, eight prompts, reward = share of 'a'.

The small GPT and the transformers model have the same shape (width 64, two layers, two heads, 64
ids, 64 positions); every system sees the same prompts, each behind the start token. `Shape` makes
the same task larger.
"""

from __future__ import annotations

import os
import string
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Shape:
    """Size of both models: residual width, blocks, heads, and ids (one per letter and the end)."""

    width: int
    layers: int
    heads: int
    ids: int

    @property
    def letters(self) -> str:
        """The usual ones, then as many from the CJK block as there are ids left."""
        return LETTERS + "".join(chr(0x4E00 + i) for i in range(self.ids - 1 - len(LETTERS)))


T0 = Shape(64, 2, 2, len(LETTERS) + 1)


class CharTokenizer:
    """One id per character, 0 for the end: the methods `SmallLM` asks of a tokenizer."""

    def __init__(self, letters):
        self.letters = letters
        self.vocab_size = len(letters) + 1

    def encode(self, texts):
        return [[self.letters.index(c) + 1 for c in text] for text in texts]

    def decode(self, ids):
        return ["".join(self.letters[i - 1] for i in row if i) for row in ids]

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


def small_lm(shape: Shape = T0) -> SmallLM:
    config = GPTConfig(shape.ids, 64, width=shape.width, layers=shape.layers, heads=shape.heads)
    network = GPT(config, rng=torch.Generator().manual_seed(0))
    return SmallLM(network, CharTokenizer(shape.letters), MAX_NEW)


def hf_tokenizer(shape: Shape = T0):
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    vocab = {letter: i for i, letter in enumerate([END, *shape.letters])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=END, padding_side="left"
    )


def hf_model(shape: Shape = T0):
    from transformers import GPT2Config, GPT2LMHeadModel

    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    drop = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    size = {"n_embd": shape.width, "n_layer": shape.layers, "n_head": shape.heads}
    config = GPT2Config(vocab_size=shape.ids, n_positions=64, **size, **drop, **ends)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return GPT2LMHeadModel(config)


def hf_lm(shape: Shape = T0) -> TransformersLM:
    return TransformersLM.from_model(hf_model(shape), hf_tokenizer(shape), MAX_NEW)


def trl_missing() -> bool:
    try:
        import trl  # noqa: F401
    except ImportError:
        return True
    return False


def trl_trainer(
    kind: str,
    steps: int,
    *,
    lr: float,
    callback: Any,
    seed: int = 0,
    shape: Shape = T0,
    **settings: Any,
):
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
    hf_model(shape).save_pretrained(folder / "model")
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
        processing_class=hf_tokenizer(shape),
        callbacks=[callback],
    )


def at_steps(action: Callable[[int], object]):
    """A transformers callback that calls `action(steps done)` after every step; True stops."""
    from transformers import TrainerCallback

    class AtSteps(TrainerCallback):
        def on_step_end(self, args, state, control, **_: Any):
            if action(state.global_step) is True:
                control.should_training_stop = True

    return AtSteps()
