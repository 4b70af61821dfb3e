"""Names that are loaded where they are used."""

import importlib
import subprocess
import sys

import pytest

from esscher.kit.lazy import lazy_names

PACKAGES = ["esscher.branch", "esscher.novelty", "esscher.offline", "esscher.pandora"]


def test_a_name_is_that_of_its_module():
    load = lazy_names("esscher.kit", {"require": "require", "Run": "runs.folder"})
    assert load("Run").__name__ == "Run"
    with pytest.raises(AttributeError, match=r"module 'esscher.kit' has no attribute 'run'"):
        load("run")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_of_a_package_is_there_in_any_order(package):
    found = importlib.import_module(package)
    for name in reversed(found.__all__):
        assert getattr(found, name) is not None
    with pytest.raises(AttributeError, match="no attribute"):
        getattr(found, "nothing of this name")


@pytest.mark.parametrize("package", ["esscher.branch", "esscher.novelty", "esscher.offline"])
def test_a_package_alone_loads_nothing_heavy(package):
    heavy = {"torch", "pyscipopt", "sklearn"}
    code = f"import sys, {package}; assert not ({heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
