"""A small GPT: pre-norm, no biases, learned positions, tied embeddings, a cache for decoding."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from esscher.errors import ConfigError
from esscher.kit.lm.fused import squared_relu

__all__ = ["GPT", "Block", "GPTConfig", "GPTDecoder", "KVCache"]


@dataclass(frozen=True)
class GPTConfig:
    """Shape of a GPT.

    Attributes:
        vocab_size: number of token ids.
        context: longest sequence in tokens, the start token and the prompt included.
        width: residual width d.
        layers: number of blocks.
        heads: attention heads per block; must divide width.
    """

    vocab_size: int
    context: int = 128
    width: int = 128
    layers: int = 4
    heads: int = 4

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context", "width", "layers", "heads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"GPTConfig.{name} must be at least 1, got {getattr(self, name)}")
        if self.width % self.heads:
            raise ConfigError(f"GPTConfig.heads={self.heads} must divide width={self.width}")


class KVCache:
    """Keys and values of the tokens seen so far, one [B, H, T, d/H] pair per block.

    Space for `context` tokens is taken once; `length` says how much of it is filled.
    """

    def __init__(
        self, config: GPTConfig, batch: int, context: int, dtype: torch.dtype | None = None
    ) -> None:
        shape = (config.layers, 2, batch, config.heads, context, config.width // config.heads)
        self.data = torch.empty(shape, dtype=dtype)
        self.length = 0

    def write(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store keys and values of new tokens [B, H, t, d/H]; return all of them so far."""
        end = self.length + k.shape[2]
        keys, values = self.data[layer, 0], self.data[layer, 1]
        keys[:, :, self.length : end] = k
        values[:, :, self.length : end] = v
        return keys[:, :, :end], values[:, :, :end]

    def select(self, rows: Tensor) -> None:
        """Keep (or repeat) the given batch rows.

        Rows that keep their place are not copied: dropping rows by moving others into the gaps
        costs as much as the gaps.
        """
        n = len(rows)
        if n > self.data.shape[2]:
            wider = self.data.new_empty(*self.data.shape[:2], n, *self.data.shape[3:])
            wider[:, :, :, :, : self.length] = self.data[:, :, rows, :, : self.length]
            self.data = wider
            return
        moved = (rows != torch.arange(n)).nonzero()[:, 0]
        self.data[:, :, moved, :, : self.length] = self.data[:, :, rows[moved], :, : self.length]
        self.data = self.data[:, :, :n]


class Block(nn.Module):
    """Attention and a two-layer perceptron, each behind a layer norm.

    The perceptron's non-linearity is the squared ReLU (So et al. 2021, Primer).
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        d = config.width
        self.heads = config.heads
        self.norm_1 = nn.LayerNorm(d, bias=False)
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.project = nn.Linear(d, d, bias=False)
        self.norm_2 = nn.LayerNorm(d, bias=False)
        self.expand = nn.Linear(d, 4 * d, bias=False)
        self.contract = nn.Linear(4 * d, d, bias=False)

    def forward(self, x: Tensor, cache: KVCache | None, layer: int) -> Tensor:
        """[B, t, d] -> [B, t, d]; with a cache, x holds only the new tokens."""
        b, t, d = x.shape
        qkv = self.qkv(self.norm_1(x)).view(b, t, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        causal = t > 1
        if cache is not None:
            k, v = cache.write(layer, k, v)
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
        x = x + self.project(y.transpose(1, 2).reshape(b, t, d))
        mixed: Tensor = self.contract(squared_relu(self.expand(self.norm_2(x))))
        return x + mixed


class GPT(nn.Module):
    """Causal transformer over token ids.

    Args:
        config: the shape.
        rng: generator of the initial weights (GPT-2 initialisation: N(0, 0.02²), residual
            projections scaled by 1/√(2·layers); Radford et al. 2019).
    """

    def __init__(self, config: GPTConfig, *, rng: torch.Generator) -> None:
        super().__init__()
        self.config = config
        # torch fills new layers from the global generator; its state must not depend on us.
        with torch.random.fork_rng(devices=[]):
            self.embed = nn.Embedding(config.vocab_size, config.width)
            self.position = nn.Embedding(config.context, config.width)
            self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
            self.norm = nn.LayerNorm(config.width, bias=False)
        self._initialise(rng)

    @torch.no_grad()
    def _initialise(self, rng: torch.Generator) -> None:
        for name, p in self.named_parameters():
            if p.ndim == 2:
                residual = name.endswith(("project.weight", "contract.weight"))
                std = 0.02 / math.sqrt(2 * self.config.layers) if residual else 0.02
                p.normal_(0.0, std, generator=rng)

    def hidden(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        """[B, t] ids -> [B, t, d] final states; a cache that is not empty takes one token."""
        start = 0 if cache is None else cache.length
        x = self.embed(tokens) + self.position.weight[start : start + tokens.shape[1]]
        for layer, block in enumerate(self.blocks):
            x = block(x, cache, layer)
        if cache is not None:
            cache.length += tokens.shape[1]
        states: Tensor = self.norm(x)
        return states

    def states_at(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """[B, t] ids -> [N, d] final states at the N positions of the mask, row by row."""
        rows = mask.flatten().nonzero()[:, 0]
        return self.hidden(tokens).flatten(0, 1).index_select(0, rows)

    def forward(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        """[B, t] ids -> [B, t, V] logits of the next token."""
        return nn.functional.linear(self.hidden(tokens, cache), self.embed.weight)

    def last_logits(self, tokens: Tensor, cache: KVCache) -> Tensor:
        """[B, t] new ids -> [B, V] logits after the last of them; fills the cache."""
        return nn.functional.linear(self.hidden(tokens, cache)[:, -1], self.embed.weight)

    def prefill(self, prompts: Tensor, owner: Tensor, max_new: int) -> tuple[Tensor, GPTDecoder]:
        """Read prompts [P, t] once each; row i continues prompt `owner[i]`.

        Returns logits [n, V] of what follows and the decoder that goes on with the n rows.
        """
        p, t = prompts.shape
        cache = KVCache(self.config, p, t + max_new, self.embed.weight.dtype)
        logits = self.last_logits(prompts, cache)[owner]
        cache.select(owner)
        return logits, GPTDecoder(self, cache)


class GPTDecoder:
    """Rows that continue one prompt, a token at a time."""

    def __init__(self, model: GPT, cache: KVCache) -> None:
        self.model = model
        self.cache = cache

    def step(self, ids: Tensor) -> Tensor:
        """Append ids [B]; logits [B, V] of what follows."""
        return self.model.last_logits(ids[:, None], self.cache)

    def select(self, rows: Tensor) -> None:
        """Keep only the given rows."""
        self.cache.select(rows)
