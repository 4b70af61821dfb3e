"""Share of the matrix peak that training a model of a million parameters reaches on one thread.

A step scores 64 texts through `SmallLM.log_prob_chunks`, differentiates chunk by chunk, and lets
Adam move. The peak is a float32 product of two 1024 × 1024 matrices, timed in turn with the steps.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch
from _harness import Numbers, Spread, interleaved, main, one_thread, rate, timed

from esscher.kit.lm.causal import SmallLM
from esscher.kit.lm.gpt import GPT, GPTConfig
from esscher.kit.lm.sequences import Sequences

VOCAB, LENGTH, BATCH, SIDE = 2048, 256, 16, 1024
SHAPE = GPTConfig(VOCAB, LENGTH, width=128, layers=4, heads=4)


class Ids:
    """A tokenizer that no text reaches: sequences are given as ids."""

    vocab_size = VOCAB

    def encode(self, texts):
        return [[] for _ in texts]


def forward_flops(shape: GPTConfig, rows: int, tokens: int, *, causal: bool = False) -> int:
    """Multiplications and additions of every matrix product in one forward pass.

    By custom (6 N + 12 L d T per token and step, Chowdhery et al. 2022) all products of attention
    count, although causal attention needs only half of them; `causal` counts that half.
    """
    d = shape.width
    pairs = tokens * (tokens + 1) // 2 if causal else tokens * tokens
    projections = shape.layers * 2 * 12 * d * d * tokens
    attention = shape.layers * 2 * 2 * d * pairs
    head = 2 * d * shape.vocab_size * tokens
    return rows * (projections + attention + head)


def step_flops(shape: GPTConfig, rows: int, tokens: int, *, causal: bool = False) -> int:
    """Forward, and twice as much backward."""
    return 3 * forward_flops(shape, rows, tokens, causal=causal)


def texts(rows: int, tokens: int) -> Sequences:
    rng = torch.Generator().manual_seed(0)
    ids = torch.randint(1, VOCAB, (rows, tokens), generator=rng)
    return Sequences(ids, torch.full((rows,), tokens), torch.zeros(rows).bool())


def train_step(lm: SmallLM, optimiser: torch.optim.Optimizer, x: Sequences) -> None:
    optimiser.zero_grad(set_to_none=True)
    for _, log_prob in lm.log_prob_chunks(x):
        (-log_prob.sum() / x.lengths.sum()).backward()
    optimiser.step()


def measure(quick: bool) -> Numbers:
    one_thread()
    network = GPT(SHAPE, rng=torch.Generator().manual_seed(0))
    lm = SmallLM(network, Ids(), LENGTH)  # type: ignore[arg-type]
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4, fused=True)
    x = texts(BATCH, LENGTH)
    a = torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(0))

    def training() -> float:
        steps = 2 if quick else 4
        for _ in range(steps):
            train_step(lm, optimiser, x)
        return steps * step_flops(SHAPE, BATCH, LENGTH) / 1e9

    def products() -> float:
        times = 50 if quick else 100
        for _ in range(times):
            torch.mm(a, a)
        return times * 2 * SIDE**3 / 1e9

    training(), products()
    work = {"training": lambda: timed(training), "product": lambda: timed(products)}
    found = interleaved(work, 5 if quick else 15)
    share = [p.cpu / t.cpu for p, t in zip(found["product"], found["training"], strict=True)]
    gflops = rate(found["training"])
    half = step_flops(SHAPE, 1, LENGTH, causal=True) / step_flops(SHAPE, 1, LENGTH)
    per_token = step_flops(SHAPE, BATCH, LENGTH) / (BATCH * LENGTH) / 1e9
    return {
        "share of peak": Spread.of(share),
        "share of peak, attention by half": Spread.of(half * s for s in share),
        "share of the best peak": Spread.of(
            min(t.cpu for t in found["product"]) / t.cpu for t in found["training"]
        ),
        "parameters": Spread.of([sum(p.numel() for p in network.parameters())]),
        "GFLOP per CPU s": gflops,
        "peak, GFLOP per CPU s": rate(found["product"]),
        "tokens per CPU s": Spread(*(v / per_token for v in vars(gflops).values())),
    }


def run(quick: bool = False, output: object = None) -> dict[str, float]:
    return {key: spread.median for key, spread in measure(quick).items()}


if __name__ == "__main__":
    sys.exit(main("training_speed", __doc__, measure))
