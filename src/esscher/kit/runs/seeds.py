"""Named random streams: one integer seed, as many independent streams as there are names."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import torch
from torch import Tensor

from esscher.errors import CheckpointError, ConfigError

__all__ = ["Streams", "rng_state", "set_rng_state"]


class Streams:
    """Independent random streams addressed by name.

    The stream of a name depends on the seed and the name only: not on which streams were opened
    before, how many workers there are or whether anything is logged. No global generator is used.

    Args:
        seed: 0 <= seed < 2**64.

    Raises:
        ConfigError: if the seed is not such an integer.
    """

    def __init__(self, seed: int) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**64:
            raise ConfigError(f"seed must be an integer with 0 <= seed < 2**64, got {seed!r}")
        self.seed = seed

    def sequence(self, name: str, *index: int | str) -> np.random.SeedSequence:
        """The seed sequence of a stream.

        Args:
            name: what the stream is for, such as "proposal".
            index: which one of several, such as the worker or the episode.
        """
        digest = hashlib.sha256(json.dumps([name, *index]).encode()).digest()
        words = np.frombuffer(digest, dtype="<u4")
        return np.random.SeedSequence(self.seed, spawn_key=[int(word) for word in words])

    def numpy(self, name: str, *index: int | str) -> np.random.Generator:
        """A fresh numpy generator at the start of the stream."""
        return np.random.Generator(np.random.PCG64(self.sequence(name, *index)))

    def torch(self, name: str, *index: int | str) -> torch.Generator:
        """A fresh CPU torch generator at the start of the stream.

        torch seeds it with 32 bits, so among 10 000 of them two may coincide (probability 1%);
        take `numpy` streams where many thousands are needed.
        """
        generator = torch.Generator()
        generator.manual_seed(int(self.sequence(name, *index).generate_state(1, np.uint32)[0]))
        return generator


def rng_state(rng: torch.Generator | np.random.Generator) -> Tensor | dict[str, Any]:
    """Everything needed to continue a generator: a uint8 tensor (torch) or JSON (numpy)."""
    if isinstance(rng, torch.Generator):
        return rng.get_state()
    return dict(rng.bit_generator.state)


def set_rng_state(
    rng: torch.Generator | np.random.Generator, state: Tensor | dict[str, Any]
) -> None:
    """Continue a generator from a state given by `rng_state`.

    Raises:
        CheckpointError: if the state belongs to another kind of generator.
    """
    try:
        if isinstance(rng, torch.Generator) and isinstance(state, Tensor):
            rng.set_state(state.cpu())
            return
        if isinstance(rng, np.random.Generator) and isinstance(state, dict):
            rng.bit_generator.state = state
            return
    except (RuntimeError, TypeError, ValueError, KeyError) as error:
        raise CheckpointError(f"the state does not fit a {type(rng).__name__}: {error}") from error
    raise CheckpointError(
        f"a {type(rng).__module__} generator cannot continue from a {type(state).__name__} state"
    )
