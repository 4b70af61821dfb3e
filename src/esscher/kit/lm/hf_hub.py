"""Models by their name on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from esscher.errors import CheckpointError, ConfigError
from esscher.kit.require import require

__all__ = ["PREFIX", "hub_folder"]

PREFIX = "hf:"
"""What a hub name begins with: hf:organisation/model or hf:organisation/model@revision."""
FILES = ("*.json", "*.safetensors", "*.model", "*.tiktoken", "*.txt", "*.jinja")


def hub_folder(name: str) -> Path:
    """The local folder of a hub model, from the hub's own cache or downloaded into it.

    Args:
        name: hf:organisation/model, with @revision where it is not the newest.

    Raises:
        ConfigError: if the name is of another form.
        CheckpointError: if the model is neither cached nor to be had.
        MissingExtra: if `huggingface_hub` is not installed.
    """
    repository, _, revision = name.removeprefix(PREFIX).partition("@")
    if repository.count("/") != 1 or not all(repository.split("/")):
        raise ConfigError(f"{name!r} is no hub name; expected hf:organisation/model[@revision]")
    hub = require("huggingface_hub", extra="lm")
    try:
        found: str = hub.snapshot_download(
            repository, revision=revision or None, allow_patterns=list(FILES)
        )
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{name} is neither in the hub's cache nor to be had from it: {error}; look at the "
            "name, the connection (HF_HUB_OFFLINE is to be unset) and HF_TOKEN, or give a folder"
        ) from error
    return Path(found)
