"""A corpus every Python ships with: the functions of its own standard library."""

from __future__ import annotations

import ast
import hashlib
import os
import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from esscher.errors import DataError

__all__ = ["compiles", "corpus_hash", "source_files", "stdlib_functions"]

EXCLUDED = frozenset(
    {
        "test",
        "tests",
        "idlelib",
        "lib2to3",
        "encodings",
        "site-packages",
        "dist-packages",
        "turtledemo",
    }
)
STATEMENT_LISTS = frozenset({"body", "handlers", "orelse", "finalbody", "cases"})
COMPILE_LIMIT = 10_000
"""Longest text `compiles` hands to the compiler, in characters."""


def stdlib_functions(max_chars: int = 128, root: Path | None = None) -> list[str]:
    """Every function and method of the standard library as normalised source, sorted by file.

    Docstrings and decorators are stripped, the source is unparsed from its syntax tree, and only
    distinct ASCII texts of at most `max_chars` characters are kept.

    Args:
        max_chars: longest text kept.
        root: folder to walk instead of the running Python's library.

    Raises:
        DataError: if no function is found (a Python without its sources).
    """
    root = root or Path(sysconfig.get_path("stdlib"))
    seen: dict[str, None] = {}
    for path in source_files(root):
        for text in _functions(path, max_chars):
            seen.setdefault(text)
    if not seen:
        raise DataError(
            f"no function of at most {max_chars} characters found under {root}; "
            "this Python comes without its library sources, or max_chars is too small"
        )
    return list(seen)


def source_files(root: Path) -> Iterator[Path]:
    """The Python files below a folder, sorted; no tests, bundled tools or installed packages."""
    for folder, names, files in os.walk(root):
        names[:] = sorted(n for n in names if n not in EXCLUDED and not n.startswith("__"))
        yield from (Path(folder) / f for f in sorted(files) if f.endswith(".py"))


def _functions(path: Path, max_chars: int) -> Iterator[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in _statements(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _may_fit(node, max_chars):
            text = ast.unparse(_bare(node))
            if len(text) <= max_chars and text.isascii():
                yield text


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """All statements, breadth first; expressions, most of a tree, hold none and stay unvisited."""
    level: list[ast.AST] = [tree]
    while level:
        level = [part for node in level for part in _parts(node)]
        yield from level


def _parts(node: ast.AST) -> Iterator[ast.AST]:
    for field in node._fields:
        if field in STATEMENT_LISTS:
            yield from getattr(node, field)


def _bare(node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
    """The function without decorators and docstrings, its own and those of what it defines."""
    for part in ast.walk(node):
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            part.decorator_list = []
            if ast.get_docstring(part, clean=False) is not None:
                part.body = part.body[1:] or [ast.Pass()]
    return node


def _may_fit(node: ast.FunctionDef | ast.AsyncFunctionDef, max_chars: int) -> bool:
    """Whether unparsing can give so short a text.

    A statement takes a line break and an indent of four at least, an expression a character.
    """
    body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
    budget = max_chars
    level: list[ast.AST] = [*body]
    while level:
        budget -= sum(
            5 if isinstance(part, ast.stmt) else isinstance(part, ast.expr) for part in level
        )
        if budget < 0:
            return False
        level = [child for part in level for child in ast.iter_child_nodes(part)]
    return True


def corpus_hash(texts: Sequence[str]) -> str:
    """SHA-256 of the corpus, hex; texts in order, separated by a zero byte."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()


def compiles(texts: Sequence[str]) -> list[bool]:
    """Whether each text is a Python program the compiler accepts. Nothing is ever executed.

    Texts longer than 10,000 characters and texts on which the compiler fails in any way (syntax,
    recursion, memory, null bytes) count as not compiling. An empty text compiles.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [_compiles(text) for text in texts]


def _compiles(text: str) -> bool:
    if len(text) > COMPILE_LIMIT:
        return False
    try:
        compile(text, "<draw>", "exec", dont_inherit=True)
    except Exception:
        return False
    return True
