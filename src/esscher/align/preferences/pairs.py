"""Preference pairs as a model reads them: token sequences, prompts, labels and weights."""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from esscher.align.preferences.config import PairConfig
from esscher.align.preferences.data import Preferences
from esscher.core.estimate import Estimate
from esscher.core.law import Samples, join, take
from esscher.errors import ConfigError, DataError, ShapeError
from esscher.kit.lm.causal import SmallLM
from esscher.kit.lm.hf import TransformersLM
from esscher.kit.lm.language_model import LanguageModel
from esscher.kit.lm.sequences import Sequences
from esscher.kit.lm.tabular import TabularLM

__all__ = ["Pairs", "Split", "encode_pairs", "encode_texts", "prepare_pairs", "weighted_mean"]


@dataclass(frozen=True)
class Pairs:
    """N comparisons of samples of a law.

    Attributes:
        chosen: the first samples, in the law's form.
        rejected: the second samples.
        context: one prompt per pair, or None.
        label: [N] float64 probability that the first is preferred.
        weight: [N] float64, what each pair counts.
        log_p0: [2, N] float64 log-probabilities of both under the prior, where they are known.
    """

    chosen: Samples
    rejected: Samples
    context: list[str] | None
    label: Tensor
    weight: Tensor
    log_p0: Tensor | None = None

    def __post_init__(self) -> None:
        parts = [self.chosen, self.rejected, self.label, self.weight]
        lengths = [len(p) for p in (parts if self.context is None else [*parts, self.context])]
        if len(set(lengths)) != 1 or lengths[0] == 0:
            raise ShapeError(f"Pairs needs parts of one length of at least 1, got {lengths}")

    @classmethod
    def plain(cls, chosen: Samples, rejected: Samples, context: list[str] | None = None) -> Pairs:
        """Pairs of which the first was preferred, all of the same weight."""
        ones = torch.ones(len(chosen), dtype=torch.float64)
        return cls(chosen, rejected, context, ones, ones)

    def __len__(self) -> int:
        return len(self.chosen)

    def take(self, rows: Tensor) -> Pairs:
        """The pairs at the given rows [B] int64."""
        return Pairs(
            take(self.chosen, rows),
            take(self.rejected, rows),
            None if self.context is None else [self.context[i] for i in rows.tolist()],
            self.label[rows],
            self.weight[rows],
            None if self.log_p0 is None else self.log_p0[:, rows],
        )

    def both(self) -> tuple[Samples, list[str] | None]:
        """All first samples and then all second ones, [2N], with their prompts."""
        context = None if self.context is None else self.context * 2
        return join([self.chosen, self.rejected]), context

    def scored(self, prior: LanguageModel) -> Pairs:
        """These pairs with their log-probabilities under the prior.

        Raises:
            DataError: if a prompt is longer than the prior's context leaves room for.
        """
        x, context = self.both()
        return replace(self, log_p0=prior.log_prob(x, context=context).view(2, -1))


class Split(NamedTuple):
    """Pairs to train on, and pairs to stop and to judge by."""

    train: Pairs
    held_out: Pairs


def prepare_pairs(law: LanguageModel, preferences: Preferences, config: PairConfig) -> Split:
    """Encode preferences, split them, and score them under the law.

    Raises:
        DataError: as `encode_pairs` and `Preferences.split` do, or if a prompt is too long.
    """
    kept = _writable(law, preferences, config)
    train, held_out = kept.split(config.held_out, seed=config.seed)
    return Split(encode_pairs(law, train).scored(law), encode_pairs(law, held_out).scored(law))


def encode_pairs(law: LanguageModel, preferences: Preferences) -> Pairs:
    """Preferences as pairs of a law's samples.

    Texts from files have no token ids, so they get the tokenizer's own; a draw of the law that
    spelled the same text by other tokens is another outcome. Prompt and text are encoded apart, as
    the law does when it continues a prompt. A text of exactly `max_new` tokens is the outcome that
    was cut there, a shorter one ends with the end token.

    Raises:
        DataError: naming a text that is longer than `max_new` tokens.
        ConfigError: if the law is not one that texts can be encoded for.
    """
    chosen, _ = encode_texts(law, preferences.chosen)
    rejected, _ = encode_texts(law, preferences.rejected)
    prompts = None if preferences.prompts is None else list(preferences.prompts)
    return Pairs.plain(chosen, rejected, prompts)


def _writable(law: LanguageModel, preferences: Preferences, config: PairConfig) -> Preferences:
    """The pairs whose texts the law can write: all of them, or an error, unless config drops."""
    sizes = [encode_texts(law, t)[1] for t in (preferences.chosen, preferences.rejected)]
    most = _encodable(law).max_new
    long = (torch.maximum(*sizes) > most).nonzero()[:, 0].tolist()
    if not long:
        return preferences
    what = f"{len(long)} of {len(preferences)} pairs have a text of more than {most} tokens"
    if config.overlong == "raise" or len(long) == len(preferences):
        i = long[0]
        text = max(preferences.chosen[i], preferences.rejected[i], key=len)
        raise DataError(
            f"{what}, which the model cannot write, the first is pair {i} ({text[:60]!r}); shorten "
            "the texts, raise the model's max_new, or leave such pairs out with overlong='drop'"
        )
    warnings.warn(f"{what} and are left out", stacklevel=3)
    return preferences.take(sorted(set(range(len(preferences))) - set(long)))


def encode_texts(law: LanguageModel, texts: Sequence[str]) -> tuple[Samples, Tensor]:
    """Texts as samples of a law, cut at `max_new` tokens, and how many tokens [N] each has.

    The text of a `TabularLM`'s outcome is its letters' ids with spaces between them, such as
    "0 1 1"; it is counted without its end.

    Raises:
        ConfigError: if texts cannot be encoded for such a law.
        DataError: if a text is not one of the law's.
    """
    law = _encodable(law)
    if isinstance(law, TabularLM):
        rows = [_letters(law, text) for text in texts]
    else:
        wide = copy.copy(law)
        wide.max_new = sys.maxsize
        rows = wide.encode(texts).lists(keep_end=False)
    sequences = Sequences.of_texts(rows, end=law.end, max_new=law.max_new)
    x: Samples = law.of_sequences(sequences) if isinstance(law, TabularLM) else sequences
    return x, torch.tensor([len(row) for row in rows])


def _letters(law: TabularLM, text: str) -> list[int]:
    words = text.split()
    if all(word.isdecimal() and int(word) < law.alphabet for word in words):
        return [int(word) for word in words]
    raise DataError(
        f"{text[:60]!r} is no text of this tabular model: expected letter ids from 0 to "
        f"{law.alphabet - 1} with spaces between them"
    )


def _encodable(law: LanguageModel) -> TabularLM | SmallLM | TransformersLM:
    if isinstance(law, TabularLM | SmallLM | TransformersLM):
        return law
    raise ConfigError(
        "preference texts can be encoded for a TabularLM, a SmallLM or a TransformersLM, got a "
        f"{type(law).__name__}"
    )


def weighted_mean(values: Tensor, weights: Tensor, *, unit: str = "") -> Estimate:
    """Σ w v / Σ w of values [N] with its standard error; equal weights give the plain mean."""
    n, total = len(values), float(weights.sum())
    mean = float((weights * values).sum()) / total
    if n < 2:
        return Estimate(mean, float("inf"), n, unit=unit)
    square = float(((weights * (values - mean)) ** 2).sum())
    ess = total**2 / float((weights**2).sum())
    se = (square * n / (n - 1)) ** 0.5 / total
    return Estimate(mean, se, n, ess=None if ess > n - 1e-6 else ess, unit=unit)
