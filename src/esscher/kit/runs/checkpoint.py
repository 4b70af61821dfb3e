"""Checkpoints that are whole or not there: safetensors and JSON, checked on the way back.

A checkpoint is a folder `00000200-0` (step and generation) with `tensors.safetensors` and
`state.json`. It is written under a temporary name, made durable and renamed; the file `latest`
then names it. Whatever moment a process dies at, the one before is still there.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from esscher.errors import CheckpointError
from esscher.kit.runs.files import sync_folder, write_atomic

__all__ = ["Checkpoint", "checkpoint_steps", "load_checkpoint", "save_checkpoint"]

_NAME = re.compile(r"(\d{8,})-(\d+)")
_TENSORS, _STATE, _LATEST, _PART = "tensors.safetensors", "state.json", "latest", ".part-"
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Checkpoint(NamedTuple):
    """What was saved.

    Attributes:
        step: the step it was saved at.
        tensors: CPU tensors by name.
        state: JSON values by name.
    """

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


def save_checkpoint(
    folder: Path,
    step: int,
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Any],
    *,
    keep: int = 2,
) -> Path:
    """Save a checkpoint and drop the oldest beyond `keep`, and those of a later, abandoned future.

    Args:
        folder: holds the checkpoints of one run, written by one process at a time; made if absent.
        step: >= 0; saving a step again replaces it.
        tensors: by name; any device and layout, written contiguous.
        state: JSON values by name; see `flatten_tree` for what is not JSON.
        keep: how many checkpoints stay, >= 1.

    Returns:
        The folder of the new checkpoint.

    Raises:
        CheckpointError: if it cannot be written or the state is not JSON; the previous checkpoints
            are then untouched.
    """
    if step < 0 or keep < 1:
        raise CheckpointError(f"a checkpoint needs step >= 0 and keep >= 1, got {step} and {keep}")
    try:
        text = json.dumps(dict(state), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the state of step {step} is not JSON: {error}") from error
    part = folder / f"{_PART}{step}-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _clear_parts(folder)
        part.mkdir()
        _write(part, step, tensors, text)
        final = folder / f"{step:08d}-{_generation(folder, step)}"
        part.rename(final)
        sync_folder(folder)
        write_atomic(folder / _LATEST, final.name + "\n")
    except (OSError, SafetensorError) as error:
        shutil.rmtree(part, ignore_errors=True)
        raise CheckpointError(_failure(folder, step, error)) from error
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    _prune(folder, final.name, keep)
    return final


def checkpoint_steps(folder: Path) -> list[int]:
    """The steps there are checkpoints of, ascending; they may be damaged."""
    return sorted({_parse(name)[0] for name in _candidates(folder)})


def load_checkpoint(folder: Path, step: int | None = None) -> Checkpoint:
    """Load the newest checkpoint that is intact.

    Args:
        folder: where `save_checkpoint` wrote.
        step: load this one only.

    Raises:
        CheckpointError: if there is none, or none intact.

    A damaged newer checkpoint is reported as a RuntimeWarning and skipped.
    """
    names = [n for n in _candidates(folder) if step is None or _parse(n)[0] == step]
    if not names:
        wanted = "a checkpoint" if step is None else f"a checkpoint of step {step}"
        there = ", ".join(map(str, checkpoint_steps(folder))) or "none"
        raise CheckpointError(f"{folder} does not hold {wanted}; steps there: {there}")
    damage = []
    for name in names:
        try:
            checkpoint = _read(folder / name)
        except CheckpointError as error:
            damage.append(str(error))
            continue
        if damage:
            text = f"{'; '.join(damage)}; continuing from step {checkpoint.step} instead"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        return checkpoint
    raise CheckpointError(f"no checkpoint is intact: {'; '.join(damage)}; start the run afresh")


def _write(part: Path, step: int, tensors: Mapping[str, Tensor], text: str) -> None:
    path = part / _TENSORS
    save_file(_separate(tensors), path)
    with path.open("rb") as file:
        os.fsync(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    body = {"step": step, "sha256": digest, "state": json.loads(text)}
    write_atomic(part / _STATE, json.dumps({"check": _check(body), **body}) + "\n")


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """CPU copies where tensors share memory (tied weights), which the format refuses."""
    seen: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        value = tensor.detach().cpu().contiguous()
        storage = value.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != value.nbytes:
            value = value.clone()
        seen.add(value.untyped_storage().data_ptr())
        result[name] = value
    return result


def _check(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _read(path: Path) -> Checkpoint:
    try:
        body = json.loads((path / _STATE).read_text(encoding="utf-8"))
        if body.pop("check") != _check(body):
            raise CheckpointError(f"{path / _STATE} is damaged: its checksum does not match")
        with (path / _TENSORS).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != body["sha256"]:
            raise CheckpointError(f"{path / _TENSORS} is damaged: its checksum does not match")
        return Checkpoint(body["step"], load_file(path / _TENSORS), body["state"])
    except (OSError, ValueError, KeyError, AttributeError, SafetensorError) as error:
        raise CheckpointError(f"{path} is damaged: {error!r}") from error


def _parse(name: str) -> tuple[int, int]:
    found = _NAME.fullmatch(name)
    return (int(found[1]), int(found[2])) if found else (-1, -1)


def _candidates(folder: Path) -> list[str]:
    """Names of checkpoints, the one to prefer first: `latest`, then newest to oldest."""
    if not folder.is_dir():
        return []
    names = [path.name for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    names.sort(key=_parse, reverse=True)
    pointer = folder / _LATEST
    latest = pointer.read_text(encoding="utf-8").strip() if pointer.exists() else ""
    return sorted(names, key=lambda name: name != latest)


def _generation(folder: Path, step: int) -> int:
    return 1 + max((_parse(n)[1] for n in _candidates(folder) if _parse(n)[0] == step), default=-1)


def _prune(folder: Path, newest: str, keep: int) -> None:
    names = _candidates(folder)
    step = _parse(newest)[0]
    older = [name for name in names if _parse(name)[0] < step]
    stay = {newest, *older[: keep - 1]}
    for name in names:
        if name not in stay:
            shutil.rmtree(folder / name, ignore_errors=True)


def _clear_parts(folder: Path) -> None:
    for path in folder.glob(f"{_PART}*"):
        shutil.rmtree(path, ignore_errors=True)


def _failure(folder: Path, step: int, error: OSError | SafetensorError) -> str:
    full = getattr(error, "errno", None) in _NO_SPACE or any(
        os.strerror(code) in str(error) for code in _NO_SPACE
    )
    advice = (
        "the disk is full: free space, or move the run to a larger disk, and resume"
        if full
        else "check that the folder is writable"
    )
    return f"cannot write the checkpoint of step {step} in {folder} ({error}); {advice}"
