"""A prior that needs no download: a small model of this Python's own library, trained once."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import sysconfig
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from esscher.errors import CheckpointError
from esscher.kit.lm.causal import SmallLM
from esscher.kit.lm.pretrain import PretrainConfig, pretrain
from esscher.kit.lm.stdlib import compiles, corpus_hash, source_files, stdlib_functions

__all__ = ["BuiltinPrior", "builtin_stdlib", "default_cache_dir"]

FORMAT = 2
"""Version of corpus, training and files; a new one makes old cache entries unused."""
DEFAULT_CONFIG = PretrainConfig()
MAX_CHARS = 128
MEMORISED_DRAWS = 256


@dataclass(frozen=True)
class BuiltinPrior:
    """A pretrained model of the standard library's functions, and what is known about it.

    Attributes:
        model: the law over texts.
        held_out_loss: on functions kept out of training, nats per token.
        n_texts: functions in the corpus, held-out ones included.
        corpus_hash: SHA-256 of the corpus, hex; it differs between Python versions.
        memorised: share of 256 draws that are, word for word, in the corpus.
        from_cache: whether the model was read rather than trained.
    """

    model: SmallLM
    held_out_loss: float
    n_texts: int
    corpus_hash: str
    memorised: float
    from_cache: bool


def builtin_stdlib(
    cache_dir: Path | None = None,
    config: PretrainConfig = DEFAULT_CONFIG,
    on_step: Callable[[int, float], None] | None = None,
    *,
    root: Path | None = None,
) -> BuiltinPrior:
    """The model of all library functions of at most 128 characters that compile.

    The first call trains it, about two minutes on two cores; later ones read it from the cache.
    A damaged cache is rebuilt and an unwritable one goes unused, each with a warning.

    Args:
        cache_dir: where to keep corpus and model; by default `default_cache_dir()`.
        config: settings of the training; each configuration has its own cache entry.
        on_step: called with (steps done, training loss in nats per token); not called where the
            model comes from the cache.
        root: folder to take the functions from instead of the running Python's library.

    Raises:
        DataError: if the library has fewer than 20 such functions.
    """
    cache = (default_cache_dir() if cache_dir is None else cache_dir) / "builtin"
    texts = _cached_corpus(cache, root or Path(sysconfig.get_path("stdlib")))
    digest = corpus_hash(texts)
    folder = cache / f"stdlib-{_python()}-{_hash([FORMAT, digest, asdict(config)])}"
    if _present(folder):
        try:
            return _read(folder)
        except CheckpointError as error:
            warnings.warn(f"rebuilding a damaged cache entry: {error}", stacklevel=2)
            shutil.rmtree(folder, ignore_errors=True)
    model, loss = pretrain(texts, config, on_step)
    prior = BuiltinPrior(model, loss, len(texts), digest, _memorised(model, texts), False)
    try:
        _publish(prior, folder)
    except OSError as error:
        warnings.warn(f"the trained model is not cached: {error}", stacklevel=2)
    return prior


def default_cache_dir() -> Path:
    """`$ESSCHER_CACHE`, else `$XDG_CACHE_HOME/esscher`, else `~/.cache/esscher`."""
    own = os.environ.get("ESSCHER_CACHE")
    if own:
        return Path(own)
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "esscher"


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _present(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _hash(parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _cached_corpus(cache: Path, root: Path) -> list[str]:
    """The corpus, extracted anew when a file's name, size or time of change differs."""
    sources = [f for f in source_files(root) if f.is_file()]
    files = [(str(f), s.st_size, s.st_mtime_ns) for f in sources for s in [f.stat()]]
    file = cache / f"texts-{_python()}-{_hash([FORMAT, MAX_CHARS, sys.version, files])}.json"
    if _present(file):
        try:
            return _read_texts(file)
        except (OSError, ValueError) as error:
            warnings.warn(f"extracting a damaged corpus cache {file} anew: {error}", stacklevel=3)
    found = stdlib_functions(MAX_CHARS, root)
    texts = [text for text, good in zip(found, compiles(found), strict=True) if good]
    try:
        _write_atomically(file, json.dumps({"hash": corpus_hash(texts), "texts": texts}))
    except OSError as error:
        warnings.warn(f"the corpus is not cached: {error}", stacklevel=3)
    return texts


def _read_texts(file: Path) -> list[str]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        texts = [str(text) for text in content["texts"]]
        intact = corpus_hash(texts) == content["hash"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a corpus file: {error!r}") from error
    if not intact:
        raise ValueError("the texts do not match their hash")
    return texts


def _write_atomically(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".tmp-") as temporary:
        draft = Path(temporary) / file.name
        draft.write_text(text, encoding="utf-8")
        draft.replace(file)


def _memorised(model: SmallLM, texts: Sequence[str]) -> float:
    known = set(texts)
    drawn = model.sample(MEMORISED_DRAWS, rng=torch.Generator().manual_seed(0)).x
    return sum(text in known for text in model.items(drawn)) / MEMORISED_DRAWS


def _publish(prior: BuiltinPrior, folder: Path) -> None:
    """Write an entry in full, then give it its name; the first of two racing processes wins."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    facts = {
        "held_out_loss": prior.held_out_loss,
        "n_texts": prior.n_texts,
        "corpus_hash": prior.corpus_hash,
        "memorised": prior.memorised,
    }
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".tmp-") as temporary:
        draft = Path(temporary) / folder.name
        prior.model.save(draft)
        (draft / "builtin.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        try:
            draft.rename(folder)
        except OSError:
            if not _present(folder):
                raise


def _read(folder: Path) -> BuiltinPrior:
    model = SmallLM.load(folder)
    try:
        facts = json.loads((folder / "builtin.json").read_text(encoding="utf-8"))
        return BuiltinPrior(
            model=model,
            held_out_loss=float(facts["held_out_loss"]),
            n_texts=int(facts["n_texts"]),
            corpus_hash=str(facts["corpus_hash"]),
            memorised=float(facts["memorised"]),
            from_cache=True,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder}/builtin.json is damaged: {error!r}") from error
