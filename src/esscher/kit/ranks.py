"""The processes of one training job, as torchrun starts them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import nn

from esscher.errors import ConfigError, WorkerError

__all__ = ["Ranks", "joined", "ranks"]

TIMEOUT_S = 1800
"""Seconds after which a process that waits for another gives up with an error."""

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is.

    Attributes:
        rank: from 0; the first one writes.
        world: number of processes.
    """

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def gather(self, mine: T) -> list[T]:
        """What every process gives, in the order of their ranks, on every process.

        Raises:
            WorkerError: here and in the other calls, if a process is lost.
        """
        if self.world == 1:
            return [mine]
        found: list[Any] = [None] * self.world
        with _still_there(self):
            dist.all_gather_object(found, mine)
        return cast("list[T]", found)

    def of_first(self, value: T) -> T:
        """The first process's value, on every process."""
        if self.world == 1:
            return value
        box = [value]
        with _still_there(self):
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its sum over processes; a missing one counts as zero."""
        if self.world == 1:
            return
        trained = [p for p in parameters if p.requires_grad]
        for p in trained:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        flat = torch.cat([cast("torch.Tensor", p.grad).reshape(-1) for p in trained])
        with _still_there(self):
            dist.all_reduce(flat)
        parts = torch.split(flat, [p.numel() for p in trained])
        for p, part in zip(trained, parts, strict=True):
            cast("torch.Tensor", p.grad).copy_(part.view_as(p))


@contextmanager
def _still_there(here: Ranks) -> Iterator[None]:
    """What a lost process does to the others, in words."""
    try:
        yield
    except RuntimeError as error:
        raise WorkerError(
            f"process {here.rank} of {here.world} lost the others, of which one died or was silent "
            f"for {TIMEOUT_S} s ({error}); look at what it said, and start the job again: a run "
            "goes on from its checkpoint with --resume"
        ) from error


def ranks() -> Ranks:
    """This process among those of the current process group; alone where there is none."""
    if not (dist.is_available() and dist.is_initialized()):
        return Ranks()
    return Ranks(dist.get_rank(), dist.get_world_size())


@contextmanager
def joined() -> Iterator[Ranks]:
    """The job that torchrun started, for as long as the block runs; alone without torchrun.

    Raises:
        ConfigError: if the processes cannot find each other.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield ranks()
        return
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    if backend == "nccl":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    try:
        dist.init_process_group(backend, timeout=timedelta(seconds=TIMEOUT_S))
    except (ValueError, RuntimeError) as error:
        raise ConfigError(
            f"WORLD_SIZE={os.environ['WORLD_SIZE']} says that this is one of several processes, "
            f"which did not find each other: {error}; start them with torchrun"
        ) from error
    try:
        yield ranks()
    finally:
        dist.destroy_process_group()
