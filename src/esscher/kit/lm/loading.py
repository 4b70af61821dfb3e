"""One door to every kind of saved language model."""

from __future__ import annotations

import json
from pathlib import Path

from esscher.errors import CheckpointError, ConfigError
from esscher.kit.lm.causal import MODEL_TYPE, SmallLM
from esscher.kit.lm.hf_hub import PREFIX, hub_folder
from esscher.kit.lm.language_model import LanguageModel
from esscher.kit.lm.model_options import AS_STORED, ModelOptions
from esscher.kit.lm.tabular import TabularLM

__all__ = ["load_language_model"]


def load_language_model(path: Path | str, options: ModelOptions = AS_STORED) -> LanguageModel:
    """Read a model of any kind: `SmallLM`, `TabularLM` or a `transformers` model.

    Args:
        path: a local folder, as one of the classes' `save` or `save_pretrained` wrote it, or a hub
            name, hf:organisation/model[@revision].
        options: settings of a `transformers` model.

    Raises:
        CheckpointError: if the folder is missing, holds no model, or a file is damaged.
        ConfigError: if options are set for a model of ours; also as `TransformersLM.load` does.
        NumericsError: as `TransformersLM.load` does.
    """
    path = hub_folder(str(path)) if str(path).startswith(PREFIX) else Path(path)
    if (path / "tabular.safetensors").is_file():
        _refuse(options, path)
        return TabularLM.load(path)
    if not (path / "config.json").is_file():
        raise CheckpointError(
            f"{path} is no model folder: expected config.json or tabular.safetensors there, found "
            f"{_contents(path)}"
        )
    if _model_type(path / "config.json") == MODEL_TYPE:
        _refuse(options, path)
        return SmallLM.load(path)
    from esscher.kit.lm.hf import TransformersLM  # noqa: PLC0415 - only where it is needed

    return TransformersLM.load(path, options=options)


def _refuse(options: ModelOptions, path: Path) -> None:
    for name in options.changed():
        raise ConfigError(
            f"{name} is a setting of transformers models, and {path} holds one of ours; leave it "
            "out"
        )


def _model_type(file: Path) -> str:
    try:
        kind = json.loads(file.read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{file} is not a readable model configuration with a model_type: {error!r}"
        ) from error
    return str(kind)


def _contents(path: Path) -> str:
    if not path.exists():
        return "no such folder"
    if not path.is_dir():
        return "a file"
    return ", ".join(sorted(p.name for p in path.iterdir())[:10]) or "an empty folder"
