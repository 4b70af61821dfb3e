"""Where a reward runs and what is remembered of it, from the settings of a command."""

from __future__ import annotations

import hashlib
import inspect
import shlex
from contextlib import suppress
from pathlib import Path

from esscher.align.rewards.cached import CachedReward
from esscher.align.rewards.command import CommandReward
from esscher.align.rewards.pooled import PooledReward
from esscher.core.batch import BatchFunction
from esscher.errors import ConfigError
from esscher.kit.scale.pool import open_pool

__all__ = ["deploy", "source_version"]


def deploy(
    function: BatchFunction,
    name: str,
    *,
    scale: str = "serial",
    timeout: float | None = None,
    cache: Path | None = None,
) -> BatchFunction:
    """The function on a pool of its own and behind a cache, as asked.

    Pool and programs end when nobody refers to the result any more.

    Args:
        function: a reward.
        name: what the user calls it; in a cache it stands beside the function's own name.
        scale: see `open_pool`.
        timeout: seconds that one call in a worker may take; a `CommandReward` has its own.
        cache: file of a `CachedReward`, whose version is that of the function's source.

    Raises:
        ConfigError: if the scale is none, or the timeout cannot be kept.
    """
    patience = None if isinstance(function, CommandReward) else timeout
    deployed = function
    if scale != "serial":
        deployed = PooledReward(function, open_pool(scale), timeout=patience)
    elif patience is not None:
        raise ConfigError(
            f"a timeout of {patience:g} s cannot be kept for a function in this process; add "
            "--scale processes:1"
        )
    if cache is None:
        return deployed
    return CachedReward(deployed, path=cache, version=f"{name} {source_version(function)}")


def source_version(function: BatchFunction) -> str:
    """A digest of the file a function, or its class, is in, or of the files its command names.

    It changes with them, so that what was computed before is not used after; what they import is
    not looked at.
    """
    if isinstance(function, CommandReward):
        files = [Path(word) for word in shlex.split(function.command)[1:]]
    else:
        files = []
        made_by = function if inspect.isroutine(function) else type(function)
        with suppress(TypeError, OSError):
            files = [Path(inspect.getsourcefile(inspect.unwrap(made_by)) or "")]
    digest = hashlib.sha256()
    for file in files:
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
