"""`esscher doctor`: what is installed, what is missing and how fast this machine is."""

from __future__ import annotations

import os
import platform
import time
from typing import Any

from esscher.kit.runs.environment import cache_folder, package_versions

__all__ = ["EXTRAS", "doctor"]

CORE = ("esscher", "cyclopts", "matplotlib", "numpy", "rich", "safetensors", "scipy", "torch")
EXTRAS = {
    "lm": ("accelerate", "peft", "tokenizers", "transformers"),
    "sklearn": ("scikit-learn",),
    "parquet": ("pyarrow",),
    "data": ("pooch",),
    "rl": ("gymnasium", "h5py", "imageio", "mujoco"),
    "milp": ("greenlet", "highspy", "pyscipopt"),
    "fast": ("llvmlite", "numba"),
    "ray": ("ray",),
    "vllm": ("vllm",),
}


def doctor() -> dict[str, Any]:
    """Check the installation and this machine."""
    import torch  # noqa: PLC0415 - only for the speed and its threads

    missing = [name for name, version in package_versions(CORE).items() if version is None]
    return {
        "ok": not missing,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "torch threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "matrix product": f"{_speed():.1f} GFLOP/s (float32, 512 x 512)",
        "cache": str(cache_folder()),
        "packages": package_versions(CORE),
        "extras": [_extra(name, packages) for name, packages in EXTRAS.items()],
    }


def _extra(name: str, packages: tuple[str, ...]) -> dict[str, Any]:
    versions = package_versions(packages)
    missing = [package for package, version in versions.items() if version is None]
    present = ", ".join(f"{package} {version}" for package, version in versions.items() if version)
    advice = f'missing {", ".join(missing)}; run: pip install "esscher[{name}]"'
    return {"extra": name, "installed": present, "state": advice if missing else "complete"}


def _speed(size: int = 512, rounds: int = 5) -> float:
    import torch  # noqa: PLC0415 - see doctor

    matrix = torch.ones(size, size)
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        matrix @ matrix
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times) / 1e9
