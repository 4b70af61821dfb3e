"""Small files, short functions."""

import ast
import statistics
from pathlib import Path

FILES = sorted((Path(__file__).parents[2] / "src").rglob("*.py"))
LENGTHS = {path: len(path.read_text().splitlines()) for path in FILES}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def test_no_file_is_long():
    assert {path.name: n for path, n in LENGTHS.items() if n > 400} == {}


def test_the_median_file_is_short():
    assert statistics.median(n for path, n in LENGTHS.items() if path.name != "__init__.py") <= 150


def test_no_function_is_long():
    long = {
        f"{path.name}:{node.name}": node.end_lineno - node.lineno + 1
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, FUNCTIONS) and node.end_lineno - node.lineno + 1 > 80
    }
    assert long == {}
