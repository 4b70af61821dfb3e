"""Whether a model is still what it was."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from torch import nn

__all__ = ["fingerprint"]


@torch.no_grad()
def fingerprint(module: nn.Module) -> str:
    """Changes whenever training moves a parameter: a hash of every tensor's sums."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        sums: list[Any] = [name, list(tensor.shape)]
        if tensor.is_floating_point():
            flat = tensor.flatten()
            halves = flat.tensor_split(2)
            sums += [float(part.sum(dtype=torch.float64)) for part in halves]
            sums.append(float(flat.abs().sum(dtype=torch.float64)))
        digest.update(json.dumps(sums).encode())
    return digest.hexdigest()[:16]
