"""Muon for a transformer's matrices, AdamW for the rest."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from esscher.kit.lm.gpt import GPT

__all__ = ["muon_and_adamw", "scale_rates"]


def muon_and_adamw(
    network: GPT,
    others: Sequence[tuple[nn.Parameter, float]] = (),
    *,
    lr: float,
    matrix_lr: float,
    weight_decay: float,
    matrix_decay: float,
) -> list[torch.optim.Optimizer]:
    """Optimisers that share out a network's parameters, and some more with rates of their own.

    Muon (Jordan et al. 2024) trains the blocks' matrices, scaled so that an update has the size of
    AdamW's; three Newton-Schulz rounds do as well as five here. AdamW (β = 0.9, 0.98) trains the
    embeddings, the norms and the others.

    Args:
        network: the transformer.
        others: (parameter, peak learning rate) pairs.
        lr: peak learning rate of AdamW.
        matrix_lr: of Muon.
        weight_decay: of AdamW.
        matrix_decay: of Muon.
    """
    matrices = [p for p in network.blocks.parameters() if p.ndim == 2]
    rest = [p for p in network.parameters() if all(p is not m for m in matrices)]
    groups = [{"params": rest, "lr": lr}, *({"params": [p], "lr": rate} for p, rate in others)]
    adam = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=weight_decay, fused=True)
    muon = torch.optim.Muon(
        matrices,
        matrix_lr,
        weight_decay=matrix_decay,
        ns_steps=3,
        adjust_lr_fn="match_rms_adamw",
    )
    for optimiser in (adam, muon):
        for group in optimiser.param_groups:
            group["initial_lr"] = group["lr"]
    return [adam, muon]


def scale_rates(optimisers: Sequence[torch.optim.Optimizer], factor: float) -> None:
    """Set every learning rate to its peak times the factor."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = factor * group["initial_lr"]
