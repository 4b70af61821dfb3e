"""What the package offers: sorted, there, documented."""

import importlib
import inspect
import pickle
import pkgutil

import pytest

import esscher
from esscher import errors

MODULES = sorted(
    found.name
    for found in pkgutil.walk_packages(esscher.__path__, "esscher.")
    if not found.name.endswith("__main__")
)


def kind_then_name(name):
    """Constants, then classes, then functions, each by name."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize("name", MODULES)
def test_public_names_are_sorted_there_and_documented(name):
    module = importlib.import_module(name)
    assert module.__doc__ or name.endswith("__about__"), f"{name} has no docstring"
    names = getattr(module, "__all__", [])
    assert names == sorted(set(names), key=kind_then_name)
    for public in names:
        value = getattr(module, public)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), f"{name}.{public} has no docstring"


@pytest.mark.parametrize("name", MODULES)
def test_every_module_with_code_says_what_is_public(name):
    module = importlib.import_module(name)
    own = [
        key
        for key, value in vars(module).items()
        if not key.startswith("_")
        and getattr(value, "__module__", None) == name
        and (inspect.isclass(value) or inspect.isfunction(value))
    ]
    hidden = [key for key in own if key not in getattr(module, "__all__", [])]
    assert not hidden, f"{name} has {hidden} neither in __all__ nor with an underscore"


@pytest.mark.parametrize("name", errors.__all__)
def test_errors_survive_pickling_and_share_a_base(name):
    error = getattr(errors, name)("what happened")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == "what happened"
    assert isinstance(again, errors.EsscherError)


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_is_in_the_drawn_tree(name):
    assert name in (errors.__doc__ or "")
