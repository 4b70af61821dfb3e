"""Low-rank adapters on a `transformers` model: few parameters move, the rest is shared."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from esscher.errors import ConfigError
from esscher.kit.require import require

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = [
    "ADAPTER",
    "Trained",
    "adapted",
    "has_adapters",
    "merged",
    "shared_copy",
    "write_adapter",
]

ADAPTER = "adapter"
"""Folder beside a saved model that holds its adapters in peft's form."""
PREFIX = "base_model.model."
"""What peft puts in front of the names of adapted modules."""


class Trained(nn.Module):
    """The trainable parameters of a module, as a module of their own: what moves and is stored.

    Args:
        module: shares its trainable parameters.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                self.register_parameter(name.replace(".", ":"), parameter)


def adapted(
    model: PreTrainedModel, rank: int, alpha: float | None = None, *, seed: int = 0
) -> PreTrainedModel:
    """A network that shares all weights, frozen, and has adapters of all linear layers besides.

    Args:
        model: without adapters.
        rank: of the adapters, at least 1.
        alpha: scale of the adapters times the rank; twice the rank by default.
        seed: of their first factors; the second are zero, so that nothing changes yet.

    Raises:
        ConfigError: if the model has adapters, or a number is out of range.
        MissingExtra: if `peft` is not installed.

    Reference: Hu et al. (2022), LoRA.
    """
    scale = 2.0 * rank if alpha is None else alpha
    if rank < 1 or not 0 < scale < math.inf:
        raise ConfigError(
            f"lora needs a rank of at least 1 and a positive alpha, got {rank} and {scale}"
        )
    if has_adapters(model):
        raise ConfigError("the model has adapters already; load the merged folder instead")
    peft = require("peft", extra="lm")
    network = shared_copy(model, everything=True)
    settings = peft.LoraConfig(
        r=rank,
        lora_alpha=scale,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
        # GPT-2 and its kin keep their weights transposed.
        fan_in_fan_out=any(type(m).__name__ == "Conv1D" for m in network.modules()),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(settings, network)
    for parameter in network.parameters():
        if parameter.requires_grad:
            # Steps of Adam are lost in eight bits of mantissa.
            parameter.data = parameter.data.float()
    return network


def shared_copy(model: PreTrainedModel, *, everything: bool = False) -> PreTrainedModel:
    """A copy that shares the memory of frozen parameters, or of all, which are then frozen."""
    known: dict[int, Any] = {}
    for parameter in model.parameters():
        if everything or not parameter.requires_grad:
            known[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
    return copy.deepcopy(model, known)


def has_adapters(model: nn.Module) -> bool:
    """Whether parts of a model are adapted."""
    return bool(getattr(model, "peft_config", None))


def merged(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of an adapted model with the adapters added to the weights."""
    layer = require("peft.tuners.tuners_utils", extra="lm").BaseTunerLayer
    twin = copy.deepcopy(model)
    for name, module in list(twin.named_modules()):
        if isinstance(module, layer):
            module.merge()
            parent, _, own = name.rpartition(".")
            setattr(twin.get_submodule(parent), own, module.get_base_layer())
    del twin.peft_config
    return twin


def write_adapter(model: PreTrainedModel, path: Path) -> None:
    """Write the adapters alone, as `peft.PeftModel.from_pretrained` reads them."""
    from safetensors.torch import save_file  # noqa: PLC0415 - beside peft, where it is needed

    peft = require("peft", extra="lm")
    path.mkdir(parents=True, exist_ok=True)
    weights = peft.get_peft_model_state_dict(model)
    save_file(
        {f"{PREFIX}{name}": tensor.contiguous() for name, tensor in weights.items()},
        path / "adapter_model.safetensors",
    )
    cast("Any", model).peft_config["default"].save_pretrained(path)
