"""What the built-in predicates say of texts whose answer is plain to see."""

import pytest

from esscher.kit.lm.predicates import (
    PREDICATES,
    has_branch,
    has_return,
    names_bound,
    no_unused_args,
    uses_self,
)

BROKEN = ["def f(:", "\x00", "x" * 20_000, "(" * 500]


@pytest.mark.parametrize("name", sorted(set(PREDICATES) - {"closes_only_open_brackets"}))
def test_what_does_not_parse_satisfies_nothing(name):
    assert PREDICATES[name](BROKEN) == [False] * len(BROKEN)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("def f(x):\n    return x", True),
        ("def f(x):\n    if x:\n        return 0", True),
        ("def f(x):\n    return", False),
        ("def f(x):\n    pass", False),
        ("lambda x: x", False),
    ],
)
def test_a_value_is_returned(text, wanted):
    assert has_return([text]) == [wanted]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("def f(x):\n    if x:\n        pass", True),
        ("def f(x):\n    for y in x:\n        pass", True),
        ("def f(x):\n    with x:\n        pass", True),
        ("def f(x):\n    try:\n        pass\n    finally:\n        pass", True),
        ("def f(x):\n    return x if x else [y for y in x]", False),
    ],
)
def test_a_statement_branches(text, wanted):
    assert has_branch([text]) == [wanted]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("def f(self):\n    return self.x", True),
        ("def f(self):\n    pass", False),
        ("def f(self):\n    self = 1", False),
        ("x = self", True),
    ],
)
def test_self_is_read(text, wanted):
    assert uses_self([text]) == [wanted]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("def f(x, *a, y=1, **k):\n    return (x, a, y, k, len(a))", True),
        ("def f(x):\n    return y", False),
        ("def f():\n    import os.path as p, sys\n    return (p, sys)", True),
        ("def f():\n    import os.path\n    return os", True),
        ("def f(xs):\n    return [x for x in xs]", True),
        ("def f():\n    try:\n        pass\n    except OSError as e:\n        return e", True),
        ("def f():\n    return f", True),
        ("def f(x):\n    with x as y:\n        return y", True),
        ("def f(x):\n    if (n := x):\n        return n", True),
        ("def f(x):\n    match x:\n        case [a, *b]:\n            return (a, b)", True),
        ("def f(x):\n    match x:\n        case {1: a, **r}:\n            return (a, r)", True),
        ("def f():\n    return logging.x", False),
        ("def f():\n    x.y = 1", False),
    ],
)
def test_names_are_bound(text, wanted):
    compile(text, "<test>", "exec")
    assert names_bound([text]) == [wanted]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("def f(self, x):\n    return x", True),
        ("def f(x, y):\n    return x", False),
        ("def f(*args, **kw):\n    return (args, kw)", True),
        ("def f(*args):\n    pass", False),
        ("def f(x, /, *, y):\n    return x + y", True),
        ("async def f(x):\n    await x", True),
        ("def f(x):\n    x = 1", False),
        ("def f():\n    def g(y):\n        pass", False),
        ("def f(x=1):\n    def g():\n        return x", True),
    ],
)
def test_arguments_are_used(text, wanted):
    assert no_unused_args([text]) == [wanted]
