"""Tokens per CPU second of sampling, next to `transformers` generate on the same machine.

Width 128, four layers, vocabulary 1024, up to 88 tokens. A model with fresh weights ends one token
in 1024, so rows run to the limit; in the "finishing" variant the end token has 1 chance in 20.
Our draws come with their log-probabilities; `generate` returns tokens only, or with
`output_scores` the scores they follow from.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import math
import os
import resource
import tempfile
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")

import torch
from _harness import Numbers, Round, interleaved, main, one_thread, rate, ratio, single, timed

from esscher.kit.lm.generate import generate
from esscher.kit.lm.gpt import GPT, GPTConfig
from esscher.kit.lm.hf_network import HFNetwork

VOCAB, WIDTH, LAYERS, HEADS, MAX_NEW = 1024, 128, 4, 4, 88
CONTEXT = 128
END_SHARE = 1 / 20


def small_network(*, finishing: bool) -> Any:
    network = GPT(
        GPTConfig(VOCAB, CONTEXT, WIDTH, LAYERS, HEADS), rng=torch.Generator().manual_seed(0)
    )
    return Ending(network) if finishing else network


def hf_model() -> Any:
    from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    shape = {"vocab_size": VOCAB, "n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS}
    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        GPT2LMHeadModel(GPT2Config(n_positions=CONTEXT, **shape, **ends)).save_pretrained(folder)
        return AutoModelForCausalLM.from_pretrained(folder).eval()


class Ending:
    """A network whose end token is as likely as `END_SHARE`, whatever it was before."""

    def __init__(self, network: Any) -> None:
        self.network = network

    def prefill(self, prompts, owner, max_new):
        logits, decoder = self.network.prefill(prompts, owner, max_new)
        return raise_end(logits), EndingDecoder(decoder)


class EndingDecoder:
    """The decoder of `Ending`."""

    def __init__(self, decoder: Any) -> None:
        self.decoder = decoder

    def step(self, ids):
        return raise_end(self.decoder.step(ids))

    def select(self, rows):
        self.decoder.select(rows)


def raise_end(logits):
    """Logits [B, V] in which id 0 has probability `END_SHARE`."""
    logits = logits.clone()
    others = torch.logsumexp(logits[:, 1:], 1)
    logits[:, 0] = others + math.log(END_SHARE / (1 - END_SHARE))
    return logits


def own_round(network: Any, batch: int) -> Round:
    rng = torch.Generator().manual_seed(1)
    prompt = torch.zeros(1, dtype=torch.long)

    def work() -> int:
        drawn, _ = generate(network, prompt, batch, max_new=MAX_NEW, end=0, rng=rng)
        return int(drawn.lengths.sum())

    return lambda: timed(work)


def generate_round(model: Any, batch: int, *, scores: bool, finishing: bool) -> Round:
    from transformers import LogitsProcessor, LogitsProcessorList

    class RaiseEnd(LogitsProcessor):
        def __call__(self, input_ids, scores):
            return raise_end(scores)

    settings = {
        "do_sample": True,
        "top_k": 0,
        "top_p": 1.0,
        "temperature": 1.0,
        "max_new_tokens": MAX_NEW,
        "return_dict_in_generate": True,
        "output_scores": scores,
        "pad_token_id": 0,
        "logits_processor": LogitsProcessorList([RaiseEnd()] if finishing else []),
    }
    prompt = torch.zeros(batch, 1, dtype=torch.long)

    @torch.no_grad()
    def work() -> int:
        out = model.generate(prompt, attention_mask=torch.ones_like(prompt), **settings)
        tokens = out.sequences[:, 1:]
        if scores:
            log_probs(model, out)
        ended = (tokens == 0).cumsum(1)
        return int(((ended == 0) | ((ended == 1) & (tokens == 0))).sum())

    return lambda: timed(work)


def log_probs(model: Any, out: Any):
    """[B, T] log-probability of every sampled token."""
    return model.compute_transition_scores(out.sequences, out.scores, normalize_logits=True)


def cases(batch: int) -> dict[str, Round]:
    model = hf_model()
    network = HFNetwork(model)
    found: dict[str, Round] = {}
    for finishing in (False, True):
        tail = f"{batch}{', finishing' if finishing else ''}"
        found[f"small {tail}"] = own_round(small_network(finishing=finishing), batch)
        found[f"hf {tail}"] = own_round(Ending(network) if finishing else network, batch)
        for scores in (False, True):
            label = "generate with log-probs" if scores else "generate"
            settings = {"scores": scores, "finishing": finishing}
            found[f"{label} {tail}"] = generate_round(model, batch, **settings)
    return found


def growth(rounds: int) -> Numbers:
    """What larger batches cost our own sampler: time per token, and memory of the whole process.

    Called before `transformers` is loaded, whose memory is not the sampler's.
    """
    network = small_network(finishing=False)
    times = interleaved({str(b): own_round(network, b) for b in (64, 512)}, rounds)
    unit = 2**20 if sys.platform == "darwin" else 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return {
        "small, time per token: batch 64 / 512": ratio(times["64"], times["512"]),
        "small, batch 512: peak memory, MiB": single(peak),
    }


def measure(quick: bool) -> Numbers:
    one_thread()
    numbers = growth(1 if quick else 3)
    for batch, rounds in ((64, 3),) if quick else ((64, 5), (256, 3)):
        times = interleaved(cases(batch), rounds)
        for variant in ("", ", finishing"):
            tail = f"{batch}{variant}"
            for own in ("small", "hf"):
                for peer in ("generate with log-probs", "generate"):
                    key = f"{own} / {peer}, batch {tail}"
                    numbers[key] = ratio(times[f"{peer} {tail}"], times[f"{own} {tail}"])
            for name in ("small", "hf", "generate", "generate with log-probs"):
                numbers[f"{name}, tokens per CPU s, batch {tail}"] = rate(times[f"{name} {tail}"])
    return numbers


def run(quick: bool = False, output: object = None) -> dict[str, float]:
    return {key: spread.median for key, spread in measure(quick).items()}


if __name__ == "__main__":
    sys.exit(main("sampler", __doc__, measure))
