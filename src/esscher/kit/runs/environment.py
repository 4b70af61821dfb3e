"""What a result depends on besides its configuration: versions, machine, threads, source."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from esscher.__about__ import __version__

__all__ = ["PACKAGES", "cache_folder", "describe_environment", "package_versions"]

PACKAGES = (
    "esscher",
    "numpy",
    "scipy",
    "torch",
    "safetensors",
    "matplotlib",
    "transformers",
    "tokenizers",
    "peft",
    "accelerate",
)


def package_versions(names: tuple[str, ...] = PACKAGES) -> dict[str, str | None]:
    """Installed versions by package; None where it is not installed."""
    found: dict[str, str | None] = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    if "esscher" in names:
        found["esscher"] = __version__
    return found


def cache_folder() -> Path:
    """Where downloaded and trained models are kept: `$XDG_CACHE_HOME/esscher`, ~/.cache without."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "esscher"


def describe_environment(seed: int) -> dict[str, Any]:
    """The environment as JSON: versions, platform, host, threads, command line, seed, git."""
    return {
        "seed": seed,
        "argv": list(sys.argv),
        "python": platform.python_version(),
        "packages": package_versions(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "host": platform.node(),
        "cores": os.cpu_count(),
        "threads": _threads(),
        "git": _git(Path.cwd()),
    }


def _threads() -> dict[str, int | str | None]:
    torch = sys.modules.get("torch")
    return {
        "torch": None if torch is None else torch.get_num_threads(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
    }


def _git(folder: Path) -> dict[str, Any] | None:
    """The commit the working folder is at and whether files differ from it; None outside git."""

    def ask(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        dirty = bool(ask("status", "--porcelain", "--untracked-files=no"))
        return {"commit": ask("rev-parse", "HEAD"), "dirty": dirty}
    except (OSError, subprocess.SubprocessError):
        return None
