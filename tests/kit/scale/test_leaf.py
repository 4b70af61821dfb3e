"""The room knows no system and loads nothing heavy, so that workers start in a moment."""

import ast
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[3] / "src" / "esscher" / "kit" / "scale"
MODULES = sorted(f"esscher.kit.scale.{path.stem}" for path in FOLDER.glob("[!_]*.py"))


def test_it_imports_itself_the_errors_and_the_gate_only():
    found = {
        node.module
        for path in FOLDER.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("esscher")
    }
    assert found <= {"esscher.errors", "esscher.kit.require", *MODULES}


def test_it_loads_neither_torch_nor_numpy_nor_ray():
    code = (
        f"import importlib, sys\nfor name in {MODULES!r}:\n    importlib.import_module(name)\n"
        "print(sorted({'torch', 'numpy', 'ray'} & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
