import ctypes
import weakref

import pyscipopt
import pytest

from esscher.branch.observation import library
from esscher.branch.observation.getters import Getters
from esscher.branch.observation.library import ScipLibrary, address_of, scip_library
from esscher.errors import ConfigError


def test_it_is_the_library_that_the_models_are_in():
    model = pyscipopt.Model()
    model.setParam("limits/nodes", 17)
    epsilon = scip_library().call("SCIPepsilon", ctypes.c_double, 1)
    assert epsilon(address_of(model)) == model.epsilon()
    objective = scip_library().call("SCIPgetStage", ctypes.c_int, 1)
    assert objective(address_of(model)) == model.getStage()


def test_a_proxy_has_the_address_of_its_model():
    model, other = pyscipopt.Model(), pyscipopt.Model()
    assert address_of(weakref.proxy(model)) == address_of(model) != address_of(other)


def test_missing_functions_are_named():
    with pytest.raises(ConfigError, match="SCIPnever, SCIPnor"):
        scip_library().addresses(["SCIPmajorVersion", "SCIPnever", "SCIPnor"])

    class Poor(ScipLibrary):
        def has(self, name):
            return name != "SCIProwGetNorm" and super().has(name)

    with pytest.raises(ConfigError, match=r"export SCIProwGetNorm$"):
        Getters(Poor(ctypes.CDLL(pyscipopt.scip.__file__)))


def test_an_unknown_version_is_refused(monkeypatch):
    monkeypatch.setattr(library, "KNOWN_MAJORS", (8,))
    with pytest.raises(ConfigError, match="SCIP 8 is known here, pyscipopt brings SCIP 10"):
        scip_library.__wrapped__()


def test_a_library_that_cannot_be_found_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(library, "_places", lambda _: [tmp_path / "libscip.so"])
    with pytest.raises(ConfigError, match="could not be found"):
        scip_library.__wrapped__()
