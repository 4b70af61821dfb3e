"""A text classifier of `transformers` as evidence: Bayes' rule with log p(label | text)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from esscher.errors import CheckpointError, ConfigError
from esscher.kit.require import require

__all__ = ["Classifier"]

BATCH = 64
"""Texts per pass."""


class Classifier:
    """log p(label | prompt and text), nats: `Likelihood(Classifier(folder, label), scale=a)`.

    Texts longer than the classifier reads are cut at their end.

    Args:
        folder: a sequence classifier in the layout of `save_pretrained`.
        label: by name, or by number as a text.

    Raises:
        CheckpointError: if the folder holds no readable classifier, or weights are absent from it.
        ConfigError: if there is no such label; the labels are named.
        MissingExtra: if `transformers` is not installed.
    """

    def __init__(self, folder: Path | str, label: str) -> None:
        self.folder = Path(folder)
        self.model, self.tokenizer = _read(self.folder)
        self.label = _number(label, dict(self.model.config.id2label))
        self.name = f"p({label} | text)"

    @torch.no_grad()
    def __call__(self, items: Sequence[str], contexts: Sequence[str] | None = None) -> Tensor:
        """Log-probabilities [B] float64 of the label."""
        prompts = [""] * len(items) if contexts is None else contexts
        texts = [f"{prompt}{text}" for prompt, text in zip(prompts, items, strict=True)]
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        out = torch.zeros(len(texts), dtype=torch.float64)
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            out[rows] = self._log_probs([texts[i] for i in rows])
        return out

    def _log_probs(self, texts: list[str]) -> Tensor:
        inputs = self.tokenizer(
            texts, padding=True, truncation=True, max_length=_limit(self.model), return_tensors="pt"
        )
        inputs.pop("token_type_ids", None)
        logits: Tensor = self.model(**inputs.to(self.model.device)).logits
        if logits.shape[1] == 1:
            # A single output is the log-odds of label 1.
            logits = torch.cat([torch.zeros_like(logits), logits], 1)
        return logits.double().log_softmax(-1)[:, self.label].cpu()


def _read(folder: Path) -> tuple[Any, Any]:
    transformers = require("transformers", extra="lm")
    try:
        model, report = transformers.AutoModelForSequenceClassification.from_pretrained(
            folder, local_files_only=True, output_loading_info=True
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise CheckpointError(f"{folder} holds no readable classifier: {error}") from error
    absent = sorted(map(str, report["missing_keys"]))
    if absent:
        raise CheckpointError(
            f"the weights in {folder} lack {len(absent)} tensors of a classifier, such as "
            f"{absent[0]!r}; is it a model without a classification head?"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
        model.config.pad_token_id = tokenizer.eos_token_id
    return model.train(False).float(), tokenizer


def _number(label: str, names: dict[int, str]) -> int:
    if len(names) == 1:
        names = {0: "0", 1: "1"}
    found = {name: number for number, name in names.items()} | {str(n): n for n in names}
    if label not in found:
        raise ConfigError(
            f"the classifier has no label {label!r}; it has {', '.join(names.values())}"
        )
    return found[label]


def _limit(model: Any) -> int | None:
    limit = getattr(model.config, "max_position_embeddings", None)
    return None if limit is None else int(limit)
