"""Who may import whom, read from the source without any tool."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "esscher"
LAYERS = ["errors", "core", "kit", "system", "cli"]
SYSTEMS = {
    "align", "allocate", "branch", "compress", "grade", "meta", "novelty", "offline", "pandora",
    "pogo", "pretrain",
}  # fmt: skip
FREE = {"", "__about__"}
LEAVES = {"kit.runs", "kit.nets", "kit.data"}
GATE = "kit.require"
"""Leaves may use it: it imports nothing of this library but the errors."""


def module_of(path):
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports_of(tree, module):
    """Modules of this package that a module imports, without the package's own name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            names = [node.module]
            if node.module == "esscher":
                names = [f"esscher.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            if name == "esscher" or name.startswith("esscher."):
                yield name.removeprefix("esscher").lstrip(".")


def layer(module):
    top = module.partition(".")[0]
    return "system" if top in SYSTEMS else top


def violations(module, imported):
    if module.partition(".")[0] in {"", "__about__", "__main__"} or imported in FREE:
        return
    own, other = layer(module), layer(imported)
    if other not in LAYERS or own not in LAYERS:
        yield f"{module} or {imported} is in no layer"
    elif LAYERS.index(other) > LAYERS.index(own):
        yield f"{module} imports upwards: {imported}"
    elif own == other == "system" and module.partition(".")[0] != imported.partition(".")[0]:
        yield f"{module} imports another system: {imported}"
    room, target = ".".join(module.split(".")[:2]), ".".join(imported.split(".")[:2])
    if room in LEAVES and other == "kit" and target not in (room, GATE):
        yield f"{module} is in a leaf and imports {imported}"


def test_imports_go_downwards_only():
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        module = module_of(path)
        for imported in imports_of(ast.parse(path.read_text()), module):
            found += violations(module, imported)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("core.law", "kit.runs.files"),
        ("kit.lm.model", "align.commands"),
        ("align.run", "offline.run"),
        ("kit.runs.folder", "kit.lm.model"),
        ("errors", "core.law"),
        ("align.run", "cli.app"),
        ("unknown.room", "errors"),
    ],
)
def test_the_rule_sees_violations(module, imported):
    assert list(violations(module, imported))


@pytest.mark.parametrize(
    ("module", "imported"),
    [("align.run", "align.config"), ("kit.lm.model", "kit.runs.files"), ("cli.app", "__about__")],
)
def test_the_rule_lets_the_others_pass(module, imported):
    assert not list(violations(module, imported))
