"""Draws that all fits of a comparison use alike, made once and kept on disk."""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import torch

from esscher.align.propose import Scored
from esscher.align.reference import Reference
from esscher.core.estimate import Estimate
from esscher.kit.lm.sequences import Sequences

__all__ = ["SharedDraws"]

Kept = TypeVar("Kept", Scored, Reference)


class SharedDraws:
    """Draws by name, in a folder that processes share.

    Fits with one seed, prior, evidence and batch draw the same batches from the prior and are
    measured against the same draws of the target; whoever comes first draws and scores, the others
    read. What cannot be read or written is drawn again: sharing changes what a comparison costs,
    never what it finds.

    Args:
        folder: where the draws go; made on first use.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, name: str, kind: type[Kept], draw: Callable[[], Kept]) -> Kept:
        """The draws of that name and kind, drawn if there are none yet."""
        file = self.folder / f"{name}.pt"
        with torch.serialization.safe_globals([Scored, Reference, Estimate, Sequences]):
            try:
                found = torch.load(file, weights_only=True)
            except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError):
                found = None
        if isinstance(found, kind):
            return found
        drawn = draw()
        with suppress(OSError, RuntimeError):
            self._write(file, drawn)
        return drawn

    def _write(self, file: Path, drawn: Scored | Reference) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=self.folder)
        try:
            with os.fdopen(handle, "wb") as stream:
                torch.save(drawn, stream)
            Path(draft).replace(file)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
