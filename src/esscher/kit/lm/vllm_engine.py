"""vLLM as the engine that draws: started once, given the weights again whenever they moved."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

import torch

from esscher.core.law import Draws
from esscher.kit.lm.engine import Drawn
from esscher.kit.lm.fingerprint import fingerprint
from esscher.kit.lm.sequences import Sequences
from esscher.kit.require import require

__all__ = ["VLLM"]

MEMORY_SHARE = 0.45
"""Share of the device's memory vLLM may take: the trainer needs the rest."""


class VLLM:
    """An `LLM` of vLLM in this machine; weights travel through a folder that is removed at the end.

    Its own settings that bend a law are off: no truncation, no penalty, temperature 1, and nothing
    from the model's `generation_config`.

    Raises:
        MissingExtra: if vLLM is not installed.
    """

    def __init__(self) -> None:
        self._vllm = require("vllm", extra="vllm")
        self._folder = Path(tempfile.mkdtemp(prefix="esscher-vllm-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._llm: Any = None
        self._weights: str | None = None

    def __call__(
        self, law: Drawn, prompts: list[list[int]], max_new: int, rng: torch.Generator
    ) -> Draws:
        """One continuation of each prompt; every one has a seed of its own."""
        self._send(law)
        seeds = torch.randint(2**31, (len(prompts),), generator=rng).tolist()
        settings = [
            self._vllm.SamplingParams(
                temperature=1.0,
                top_p=1.0,
                top_k=0,
                max_tokens=max_new,
                stop_token_ids=[law.end],
                ignore_eos=True,
                logprobs=0,
                detokenize=False,
                seed=seed,
            )
            for seed in seeds
        ]
        asked = [{"prompt_token_ids": prompt} for prompt in prompts]
        answers = [a.outputs[0] for a in self._llm.generate(asked, settings, use_tqdm=False)]
        rows = [list(answer.token_ids) for answer in answers]
        width = max(map(len, rows), default=0)
        x = Sequences(
            torch.tensor([row + [law.end] * (width - len(row)) for row in rows]).view(-1, width),
            torch.tensor([len(row) for row in rows]),
            torch.tensor([row[-1] == law.end for row in rows]),
        )
        return Draws(x, torch.tensor([_log_prob(answer) for answer in answers]).double())

    def _send(self, law: Drawn) -> None:
        """Have vLLM hold the law's weights."""
        now = fingerprint(law.model)
        if now == self._weights:
            return
        law.save(self._folder)
        if self._llm is None:
            self._llm = self._vllm.LLM(
                model=str(self._folder),
                dtype=str(law.model.dtype).removeprefix("torch."),
                max_model_len=law.context,
                generation_config="vllm",
                logprobs_mode="raw_logprobs",
                gpu_memory_utilization=MEMORY_SHARE,
            )
        else:
            self._llm.collective_rpc("reload_weights", kwargs={"weights_path": str(self._folder)})
            self._llm.reset_prefix_cache()
        self._weights = now


def _log_prob(answer: Any) -> float:
    """Sum over the tokens of one answer, nats."""
    steps = zip(answer.token_ids, answer.logprobs, strict=True)
    return float(sum(step[token].logprob for token, step in steps))
