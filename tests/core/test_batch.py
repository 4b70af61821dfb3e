"""How functions are called, and whose errors are whose."""

import math

import pytest

from esscher.core.batch import arguments_for, evaluate
from esscher.errors import ConfigError, DataError, NumericsError

ITEMS, CONTEXTS = ["a", "b"], ["p", "q"]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda items: items, ((ITEMS,), {})),
        (lambda items, prompts: items, ((ITEMS, CONTEXTS), {})),
        (lambda items, scale=1.0: items, ((ITEMS,), {})),
        (lambda items, contexts=None: items, ((ITEMS,), {"contexts": CONTEXTS})),
        (lambda items, *, contexts: items, ((ITEMS,), {"contexts": CONTEXTS})),
        (len, ((ITEMS,), {})),
    ],
)
def test_a_function_gets_the_contexts_if_it_asks_for_them(function, expected):
    assert arguments_for(function, ITEMS, CONTEXTS) == expected


@pytest.mark.parametrize("on_error", ["raise", "worst"])
@pytest.mark.parametrize("kind", [ConfigError, NumericsError])
def test_what_is_no_fault_of_an_item_is_never_ruled_out(on_error, kind):
    """Nor is it dressed as another error: a function may check its own settings and numbers."""

    def function(items):
        raise kind("said so itself")

    with pytest.raises(kind, match=r"^said so itself$"):
        evaluate(function, ITEMS, None, "Reward", on_error=on_error)


def test_any_other_error_is_the_function_s_own():
    def function(items):
        if "b" in items:
            raise ValueError("no b")
        return [1.0]

    with pytest.raises(DataError, match="the function raised ValueError: no b"):
        evaluate(function, ITEMS, None, "Reward")
    with pytest.warns(UserWarning, match="raised on 1 of 2 items"):
        values = evaluate(function, ITEMS, None, "Reward", on_error="worst")
    assert values.tolist() == [1.0, -math.inf]
