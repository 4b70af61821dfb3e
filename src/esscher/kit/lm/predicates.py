"""Evidence for texts that should be Python functions. Nothing is ever executed.

Each takes a list of texts and gives one truth value each; a text that does not parse satisfies
none.
"""

from __future__ import annotations

import ast
import builtins
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

from esscher.kit.lm.brackets import closes_only_open_brackets
from esscher.kit.lm.stdlib import COMPILE_LIMIT, compiles

__all__ = [
    "PREDICATES",
    "has_branch",
    "has_return",
    "names_bound",
    "no_unused_args",
    "uses_self",
]

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
BRANCHES = (
    ast.If,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.Match,
    ast.With,
    ast.AsyncWith,
    ast.Try,
    ast.TryStar,
)
KNOWN = frozenset(dir(builtins)) | {"__class__", "__file__", "__name__"}


def has_return(texts: Sequence[str]) -> list[bool]:
    """Whether a text parses and returns a value somewhere."""
    return _each(texts, lambda tree: any(_returned(node) for node in ast.walk(tree)))


def has_branch(texts: Sequence[str]) -> list[bool]:
    """Whether a text parses and holds an if, a loop, a match, a with or a try."""
    return _each(texts, lambda tree: any(isinstance(n, BRANCHES) for n in ast.walk(tree)))


def uses_self(texts: Sequence[str]) -> list[bool]:
    """Whether a text parses and reads the name `self`."""
    return _each(texts, lambda tree: "self" in _read(tree))


def names_bound(texts: Sequence[str]) -> list[bool]:
    """Whether a text parses and reads only names that are its own or built in.

    Own names are arguments, assigned, imported, defined and caught ones, anywhere in the text.
    """
    return _each(texts, lambda tree: _read(tree) <= _bound(tree) | KNOWN)


def no_unused_args(texts: Sequence[str]) -> list[bool]:
    """Whether a text parses and each of its functions reads all its arguments, `self` aside."""
    return _each(texts, lambda tree: all(_uses_its_arguments(f) for f in _functions(tree)))


PREDICATES: Mapping[str, Callable[[Sequence[str]], list[bool]]] = MappingProxyType(
    {
        "closes_only_open_brackets": closes_only_open_brackets,
        "compiles": compiles,
        "has_branch": has_branch,
        "has_return": has_return,
        "names_bound": names_bound,
        "no_unused_args": no_unused_args,
        "uses_self": uses_self,
    }
)
"""Evidence functions that need no module path."""


def _each(texts: Sequence[str], holds: Callable[[ast.AST], bool]) -> list[bool]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trees = [_parsed(text) for text in texts]
    return [tree is not None and holds(tree) for tree in trees]


def _parsed(text: str) -> ast.AST | None:
    if len(text) > COMPILE_LIMIT:
        return None
    try:
        return ast.parse(text)
    except Exception:
        return None


def _returned(node: ast.AST) -> bool:
    return isinstance(node, ast.Return) and node.value is not None


def _read(tree: ast.AST) -> set[str]:
    return {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


def _bound(tree: ast.AST) -> set[str]:
    return {name for node in ast.walk(tree) for name in _bindings(node)}


def _bindings(node: ast.AST) -> Iterator[str]:
    """Names that a node gives a value to."""
    match node:
        case ast.arg(arg=name) | ast.ExceptHandler(name=str(name)):
            yield name
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            yield name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.alias(name=name, asname=other):
            yield other or name.split(".")[0]
        case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name
        case ast.MatchMapping(rest=str(name)):
            yield name


def _functions(tree: ast.AST) -> Iterator[FunctionNode]:
    return (node for node in ast.walk(tree) if isinstance(node, FunctionNode))


def _uses_its_arguments(function: FunctionNode) -> bool:
    a = function.args
    every = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
    used = {name for statement in function.body for name in _read(statement)}
    return {arg.arg for arg in every} - {"self", "cls"} <= used
