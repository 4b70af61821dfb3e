"""The engines by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from types import MappingProxyType

from esscher.errors import ConfigError
from esscher.kit.lm.engine import Backend, Engine
from esscher.kit.lm.transformers_engine import with_transformers
from esscher.kit.lm.vllm_engine import VLLM

__all__ = ["ENGINES", "get_engine"]

ENGINES: Mapping[str, Callable[[], Backend] | None] = MappingProxyType(
    {"builtin": None, "transformers": lambda: with_transformers, "vllm": VLLM}
)
"""Every engine by name; None is this library's own sampler, which needs no second scoring."""


def get_engine(name: str) -> Engine | None:
    """The engine of that name; None for this library's own sampler.

    Raises:
        ConfigError: if there is none of that name.
    """
    if name not in ENGINES:
        near = difflib.get_close_matches(name, ENGINES, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"unknown engine {name!r}{hint} Known: {', '.join(ENGINES)}")
    make = ENGINES[name]
    return None if make is None else Engine(name, make())
