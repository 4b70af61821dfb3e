import json
import sys

import pytest

from esscher.errors import MissingExtra
from esscher.kit.require import require


def test_an_installed_module_is_returned():
    assert require("json", "lm") is json


def test_a_missing_module_names_the_pip_line():
    with pytest.raises(MissingExtra, match=r'pip install "esscher\[milp\]"') as caught:
        require("a_solver_nobody_has", "milp")
    assert caught.value.name == "a_solver_nobody_has"


def test_a_failure_inside_an_installed_module_passes_through(tmp_path, monkeypatch):
    (tmp_path / "half_broken.py").write_text("import another_module_nobody_has\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError) as caught:
        require("half_broken", "lm")
    assert not isinstance(caught.value, MissingExtra)
    assert "half_broken" not in sys.modules
