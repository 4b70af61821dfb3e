"""Model folders in the layout of `save_pretrained`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esscher.errors import CheckpointError
from esscher.kit.require import require

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["read_folder", "write_folder"]

SETTINGS = "esscher.json"
VOCABULARIES = ("tokenizer.json", "tekken.json", "vocab.json", "vocab.txt", ".model", ".tiktoken")
GENERIC_TOKENIZERS = {"PreTrainedTokenizerFast", "TokenizersBackend"}


def write_folder(
    path: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_new: int
) -> None:
    """Write model and tokenizer with `save_pretrained`, and max_new into `esscher.json`."""
    with _without_bars():
        model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    (path / SETTINGS).write_text(json.dumps({"max_new": max_new}) + "\n", encoding="utf-8")


def read_folder(
    path: Path, dtype: str = "auto"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, int | None]:
    """Model, tokenizer and max_new of a local folder; nothing is downloaded.

    Args:
        path: the folder.
        dtype: type of the weights by its name in torch, or auto for that of the files.

    Raises:
        CheckpointError: if files are missing or damaged, or tensors are absent from the weights.
        MissingExtra: if `transformers` is not installed.
    """
    _check_files(path)
    transformers = require("transformers", extra="lm")
    try:
        max_new = _saved_max_new(path)
        with _without_bars():
            model, report = transformers.AutoModelForCausalLM.from_pretrained(
                path, local_files_only=True, output_loading_info=True, dtype=dtype
            )
        tokenizer = _tokenizer_class(path).from_pretrained(path, local_files_only=True)
    except Exception as error:
        raise CheckpointError(f"{path} is not a readable transformers folder: {error}") from error
    _check_weights(path, report)
    return model, tokenizer, max_new


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep the progress bars of `transformers` off: a bar of a moment says nothing."""
    logging = require("transformers.utils.logging", extra="lm")
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _check_files(path: Path) -> None:
    found = sorted(p.name for p in path.iterdir()) if path.is_dir() else []
    weights = any(name.endswith((".safetensors", ".bin")) for name in found)
    # Without a vocabulary `transformers` would make up an empty one.
    vocabulary = any(name.endswith(VOCABULARIES) for name in found)
    if not ("config.json" in found and weights and vocabulary):
        what = f"only {', '.join(found)}" if found else "nothing"
        raise CheckpointError(
            f"{path} should hold config.json, weights (*.safetensors or *.bin) and a tokenizer "
            f"(tokenizer.json or a vocabulary file); found {what}"
        )


def _check_weights(path: Path, report: dict[str, Any]) -> None:
    """`transformers` fills absent tensors with random numbers; that would be another model."""
    absent = sorted(map(str, report["missing_keys"]))
    if absent:
        raise CheckpointError(
            f"the weights in {path} lack {len(absent)} tensors of the model, such as "
            f"{absent[0]!r}; the files are incomplete or belong to another configuration"
        )


def _tokenizer_class(path: Path) -> Any:
    """`AutoTokenizer` turns some models' generic tokenizers into the family's own, with other ids.

    So a folder that names the generic class is read with that class.
    """
    transformers = require("transformers", extra="lm")
    file = path / "tokenizer_config.json"
    named = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if named.get("tokenizer_class") in GENERIC_TOKENIZERS and (path / "tokenizer.json").exists():
        return transformers.PreTrainedTokenizerFast
    return transformers.AutoTokenizer


def _saved_max_new(path: Path) -> int | None:
    file = path / SETTINGS
    if not file.exists():
        return None
    return int(json.loads(file.read_text(encoding="utf-8"))["max_new"])
