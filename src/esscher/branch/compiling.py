"""Loops compiled by numba, if it is installed."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

from esscher.kit.require import require

__all__ = ["available", "compile_loop"]


@functools.cache
def available() -> bool:
    """Whether numba is installed."""
    return importlib.util.find_spec("numba") is not None


def compile_loop(
    loop: Callable[..., None], *, reorder: bool, helpers: Sequence[Callable[..., Any]] = ()
) -> Callable[..., None]:
    """Machine code of a function of arrays and numbers, kept on disk where that can be.

    Args:
        loop: without Python objects in it.
        reorder: whether sums may be taken in another order. NaN and infinities keep their meaning.
        helpers: plain functions that it calls, of the same file: a change to another one would not
            show where something is kept on disk.

    Raises:
        MissingExtra: without numba.
    """
    numba: Any = require("numba", "fast")
    free = {"reassoc", "contract", "nsz", "arcp"} if reorder else False
    options = {"error_model": "numpy", "fastmath": free}
    for helper in helpers:
        numba.extending.register_jitable(**options)(helper)
    try:
        compiled: Callable[..., None] = numba.njit(cache=True, nogil=True, **options)(loop)
    except RuntimeError:
        # Neither beside the source nor in the user's cache can anything be written.
        compiled = numba.njit(nogil=True, **options)(loop)
    return compiled
