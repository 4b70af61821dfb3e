"""A module whose weights, gradients and moments rest in parts, one on every process (FSDP2).

While it works it is whole: drawing takes as many passes as the longest draw has tokens, another
number on every process, so that weights cannot be fetched pass by pass. They are fetched once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

__all__ = [
    "forget_weights",
    "gathered",
    "hand_over_gradients",
    "is_shared_out",
    "like_parts",
    "moments_in_parts",
    "share_out",
    "whole",
]


def share_out(module: nn.Module) -> None:
    """Leave this process a part of every weight; all processes call it on equal modules."""
    device = next(module.parameters()).device.type
    mesh = init_device_mesh(device, (dist.get_world_size(),))
    shared = fully_shard(module, mesh=mesh, reshard_after_forward=False)
    shared.set_requires_gradient_sync(False)
    shared.set_reshard_after_backward(False)


def forget_weights(module: nn.Module) -> None:
    """Leave the parameters their shapes, all zero, which take no memory; buffers stay."""
    for p in module.parameters():
        p.data = p.new_zeros(()).expand(p.shape)


def is_shared_out(module: nn.Module) -> bool:
    """Whether this process holds parts of the module's weights."""
    return isinstance(module, FSDPModule)


@contextmanager
def whole(module: nn.Module) -> Iterator[None]:
    """All weights on every process while the block runs; as it is where nothing is shared out."""
    if not isinstance(module, FSDPModule):
        yield
        return
    module.unshard()
    try:
        yield
    finally:
        module.reshard()


def hand_over_gradients(module: nn.Module) -> None:
    """Give the parts, on which the optimiser works, their parts of the gradients.

    Called at the end of a `whole` block, with gradients that are equal on all processes.
    """
    if not isinstance(module, FSDPModule):
        return
    found = {}
    for name, p in module.named_parameters():
        found[name], p.grad = p.grad, None
    module.reshard()
    for name, part in module.named_parameters():
        grad = found[name]
        part.grad = None if grad is None else _part_of(grad, cast("DTensor", part))


def gathered(tree: Any) -> Any:
    """The same nested dictionaries and lists with all tensors whole, on every process."""
    if isinstance(tree, DTensor):
        return tree.full_tensor().cpu()
    if isinstance(tree, Mapping):
        return {key: gathered(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [gathered(value) for value in tree]
    return tree


def like_parts(weights: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Whole weights by name as the module holds its own: as parts where they are shared out."""
    now = module.state_dict()
    return {
        name: _part_of(value, now[name]) if isinstance(now[name], DTensor) else value
        for name, value in weights.items()
    }


def moments_in_parts(saved: dict[str, Any], optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimiser's saved state as the optimiser holds its own, moment by moment."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    state = {
        index: {
            key: _part_of(value, parameters[int(index)])
            if _is_moment(value, parameters[int(index)])
            else value
            for key, value in entries.items()
        }
        for index, entries in saved["state"].items()
    }
    return {**saved, "state": state}


def _is_moment(value: Any, parameter: Tensor) -> bool:
    shared = isinstance(parameter, DTensor)
    return shared and isinstance(value, Tensor) and value.shape == parameter.shape


def _part_of(value: Tensor, like: DTensor) -> DTensor:
    """This process's part of a tensor that all processes hold whole; nothing is sent."""
    value = value.to(like.device)
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)
