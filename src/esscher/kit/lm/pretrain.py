"""Maximum-likelihood training of a small language model on short texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from esscher.errors import ConfigError, DataError, NumericsError
from esscher.kit.lm.averaging import update_average
from esscher.kit.lm.causal import SmallLM
from esscher.kit.lm.gpt import GPT, GPTConfig
from esscher.kit.lm.muon import muon_and_adamw, scale_rates
from esscher.kit.lm.tokenizer import BytePairTokenizer

__all__ = ["PretrainConfig", "batch_size", "cosine_lr", "pretrain"]


@dataclass(frozen=True)
class PretrainConfig:
    """Settings of `pretrain`.

    Attributes:
        vocab_size: size of the byte-pair vocabulary, at least 257.
        width: residual width of the network.
        layers: number of blocks.
        heads: attention heads per block.
        steps: optimiser steps.
        batch: texts of the first step.
        last_batch: texts of the last step; in between they change linearly. Late steps take less
            from a text, as their learning rate is small.
        lr: peak learning rate of AdamW (β = 0.9, 0.98; weight decay 0.05), which trains the
            embeddings and norms.
        matrix_lr: peak learning rate of Muon (Jordan et al. 2024; weight decay 0.1), which trains
            the blocks' matrices, scaled so that an update has the size of AdamW's.
        warmup: steps of linear warm-up before the cosine decay to a fiftieth.
        average: decay of the moving average of the weights, which is the result.
        held_out: share of the texts kept for validation.
        prompt_room: tokens of context left for prompts beside the longest text.
        seed: one integer for initial weights and data order.
    """

    vocab_size: int = 1024
    width: int = 128
    layers: int = 4
    heads: int = 4
    steps: int = 760
    batch: int = 58
    last_batch: int = 36
    lr: float = 3e-3
    matrix_lr: float = 6e-3
    warmup: int = 50
    average: float = 0.995
    held_out: float = 0.05
    prompt_room: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "last_batch"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"PretrainConfig.{name} must be at least 1, got {getattr(self, name)}"
                )
        for name in ("warmup", "prompt_room"):
            if getattr(self, name) < 0:
                raise ConfigError(
                    f"PretrainConfig.{name} must not be negative, got {getattr(self, name)}"
                )
        for name in ("lr", "matrix_lr"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(
                    f"PretrainConfig.{name} must be positive, got {getattr(self, name)}"
                )
        if not 0 < self.held_out < 1:
            raise ConfigError(f"PretrainConfig.held_out must lie in (0, 1), got {self.held_out}")


def batch_size(step: int, config: PretrainConfig) -> int:
    """Texts of a step, from `batch` at the first to `last_batch` at the last."""
    done = step / max(1, config.steps - 1)
    return round(config.batch + (config.last_batch - config.batch) * done)


def cosine_lr(step: int, steps: int, peak: float, warmup: int, floor: float) -> float:
    """Learning rate at `step` of `steps`: linear warm-up, then a half cosine to floor·peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done)))


def pretrain(
    texts: Sequence[str],
    config: PretrainConfig = PretrainConfig(),
    on_step: Callable[[int, float], None] | None = None,
) -> tuple[SmallLM, float]:
    """Train tokenizer and network on texts.

    Args:
        texts: the corpus; each is one example that fits the context as a whole.
        config: settings.
        on_step: called with (steps done, training loss in nats per token).

    Returns:
        The model and its loss on the held-out texts, nats per token.

    Raises:
        DataError: if there are fewer than 20 texts.
        NumericsError: if the loss stops being finite.
    """
    if len(texts) < 20:
        raise DataError(f"pretraining needs at least 20 texts, got {len(texts)}")
    rng = torch.Generator().manual_seed(config.seed)
    order = torch.randperm(len(texts), generator=rng).tolist()
    n_held_out = min(max(1, round(config.held_out * len(texts))), len(texts) - 1)
    held_out = [texts[i] for i in order[:n_held_out]]
    train = [texts[i] for i in order[n_held_out:]]
    tokenizer = BytePairTokenizer.train(train, config.vocab_size)
    longest = max(len(ids) for ids in tokenizer.encode(texts)) + 1
    shape = GPTConfig(
        tokenizer.vocab_size,
        longest + config.prompt_room,
        config.width,
        config.layers,
        config.heads,
    )
    model = SmallLM(GPT(shape, rng=rng), tokenizer, max_new=longest)
    model = _train(model, train, config, rng, on_step)
    sequences = model.encode(held_out)
    return model, float(-model.log_prob(sequences).sum() / sequences.lengths.sum())


def _train(
    model: SmallLM,
    texts: Sequence[str],
    config: PretrainConfig,
    rng: torch.Generator,
    on_step: Callable[[int, float], None] | None,
) -> SmallLM:
    """Train in place; return the averaged model."""
    data = model.encode(texts)
    average = model.clone()
    parameters = list(model.network.parameters())
    optimisers = muon_and_adamw(
        model.network,
        lr=config.lr,
        matrix_lr=config.matrix_lr,
        weight_decay=0.05,
        matrix_decay=0.1,
    )
    for step in range(config.steps):
        scale_rates(optimisers, cosine_lr(step, config.steps, 1.0, config.warmup, 0.02))
        n_texts = batch_size(step, config)
        batch = data.take(torch.randint(len(data), (n_texts,), generator=rng))
        n_tokens = int(batch.lengths.sum())
        model.network.zero_grad(set_to_none=True)
        total = 0.0
        for _, log_prob in model.log_prob_chunks(batch):
            loss = -log_prob.sum() / n_tokens
            torch.autograd.backward(loss)
            total += loss.item()
        if not math.isfinite(total):
            raise NumericsError(
                f"pretraining loss is {total} after {step} steps; lower lr={config.lr:g} or raise "
                f"warmup={config.warmup}"
            )
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimiser in optimisers:
            optimiser.step()
        update_average(average.network, model.network, config.average, step + 1)
        if on_step is not None:
            on_step(step + 1, total)
    return average
