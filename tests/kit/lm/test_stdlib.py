"""The corpus every Python ships with, and a compiler that never runs anything."""

import ast
import json
from pathlib import Path

import pytest

from esscher.errors import DataError
from esscher.kit.lm import stdlib
from esscher.kit.lm.stdlib import compiles, corpus_hash, source_files, stdlib_functions

SOURCE = '''
"""A module."""
import os

@staticmethod
def decorated(a, b=1):
    """Documented."""
    return a + b

def only_documented():
    """Nothing else."""

class C:
    """A class."""
    async def method(self):
        @os.wrap
        def inner():
            "Documented."
            return 1
        return inner

def twin(): return 1

def long():
    return [NUMBERS]
'''.replace("NUMBERS", ", ".join(map(str, range(200))))


@pytest.fixture
def root(tmp_path):
    (tmp_path / "b.py").write_text(SOURCE)
    (tmp_path / "a.py").write_text("def twin():\n    return 1\ndef ümlaut(): pass\n")
    for name in ("test", "__pycache__", "site-packages"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.py").write_text("def hidden(): pass\n")
    (tmp_path / "broken.py").write_text("def broken(:\n")
    (tmp_path / "binary.py").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere.py")
    return tmp_path


def test_functions_are_bare_distinct_short_and_in_order(root):
    assert stdlib_functions(128, root) == [
        "def twin():\n    return 1",
        "def decorated(a, b=1):\n    return a + b",
        "def only_documented():\n    pass",
        "async def method(self):\n\n    def inner():\n        return 1\n    return inner",
        "def inner():\n    return 1",
    ]
    assert len(stdlib_functions(10_000, root)) == 6


def test_tests_and_caches_are_left_out(root):
    names = [path.name for path in source_files(root)]
    assert names == ["a.py", "b.py", "binary.py", "broken.py", "gone.py"]


def test_the_prefilter_loses_nothing(root, monkeypatch):
    for limit in (28, 40, 60, 128):
        kept = stdlib_functions(limit, root)
        with monkeypatch.context() as patch:
            patch.setattr(stdlib, "_may_fit", lambda node, limit: True)
            assert stdlib_functions(limit, root) == kept


def test_the_real_library():
    texts = stdlib_functions(128, Path(json.__file__).parent)
    assert texts == stdlib_functions(128, Path(json.__file__).parent)
    assert len(texts) >= 3
    assert len(set(texts)) == len(texts)
    assert all(len(text) <= 128 and text.isascii() for text in texts)
    for node in (n for text in texts for n in ast.walk(ast.parse(text))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            assert node.decorator_list == []
            assert ast.get_docstring(node) is None


def test_a_library_without_functions_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no function of at most 128 characters found under"):
        stdlib_functions(128, tmp_path)
    with pytest.raises(DataError):
        stdlib_functions(128, tmp_path / "absent")


def test_the_hash_sees_order_and_borders():
    assert corpus_hash(["ab", "c"]) != corpus_hash(["a", "bc"])
    assert corpus_hash(["a", "b"]) != corpus_hash(["b", "a"])
    assert corpus_hash(["a"]) == corpus_hash(["a"])
    assert len(corpus_hash([])) == 64


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("", True),
        ("x = 1\n", True),
        ("def f(x):\n    return x", True),
        ("return 1", False),
        ("def f(:", False),
        ("a = 1\x00", False),
        ("(" * 5000, False),
        ("-" * 9000 + "1", False),
        ("x" + ".y" * 4900, False),
        ("9" * 9000, False),
        ("'\ud800'", False),
        ("x = 1;" * 3000, False),
        ("x is 1", True),
        ("'\\d'", True),
        ("1(2)", True),
        ("raise SystemExit", True),
        ("while True: pass", True),
    ],
)
def test_compiles(text, good):
    assert compiles([text]) == [good]


def test_nothing_is_executed(tmp_path):
    mark = tmp_path / "mark"
    program = f"open({str(mark)!r}, 'w').close()"
    texts = [program, f"@{program}\ndef f(): pass", f"def f(x={program}): pass"]
    assert compiles(texts) == [True, True, True]
    assert not mark.exists()
    exec(program)
    assert mark.exists()
