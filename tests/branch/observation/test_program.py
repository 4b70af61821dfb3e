import ctypes

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from esscher.branch.observation.loops import compiled_loops
from esscher.branch.observation.program import Place, Program, Step, address

KINDS = {
    "real": (ctypes.c_double, 0),
    "real_within": (ctypes.c_double, 1),
    "real_of": (ctypes.c_double, 2),
    "whole": (ctypes.c_int, 0),
    "pointer": (ctypes.c_int64, 0),
}


class Held:
    """Functions as steps, kept alive."""

    def __init__(self):
        self.functions = []

    def step(self, kind, functions, items, length, *contexts):
        result, count = KINDS[kind]
        made = [ctypes.CFUNCTYPE(result, *[ctypes.c_int64] * (count + 1))(f) for f in functions]
        self.functions += made
        table = np.array([ctypes.cast(f, ctypes.c_void_p).value for f in made])
        return Step(kind, table, items, length, contexts)


def place(values, kind=np.int64):
    return Place(np.array(values, kind))


def test_every_kind_of_step_reads_all_its_items_within_its_contexts():
    held, program = Held(), Program(compiled_loops())
    items = np.array([5, -2, 7])
    many = Place(np.array([address(items)])), place([3], np.int32)
    one, other = place([100]), Place(np.array([0, 10]), 1)
    program.add(held.step("real", [lambda i: i / 2, lambda i: i * i], *many))
    program.add(held.step("real_within", [lambda a, i: a - i], *many, one))
    program.add(held.step("real_of", [lambda a, b, i: a / 8 + b * i], *many, one, other))
    program.add(held.step("whole", [lambda i: 2 * i, lambda i: -i], *many))
    program.add(held.step("pointer", [lambda i: i + (1 << 40)], *many))
    program.run()
    x = items.astype(float)
    wanted = [[x / 2, x * x], [100 - x], [12.5 + 10 * x], [2 * x, -x], [x + (1 << 40)]]
    assert [found.dtype for found in program.found] == [float, float, float, np.int32, np.int64]
    for found, values in zip(program.found, wanted, strict=True):
        np.testing.assert_array_equal(found, values)
    one.values[0] = 200
    program.run()
    np.testing.assert_array_equal(program.found[1], [200 - x])


def test_what_one_step_finds_places_the_items_of_another():
    held, program = Held(), Program(compiled_loops())
    lists = [np.arange(n, dtype=np.int64) for n in (0, 2, 5)]
    chosen = np.zeros(1, np.int64)
    single = Place(np.array([address(chosen)])), place([1], np.int32)
    where = program.add(held.step("pointer", [lambda k: address(lists[k])], *single))
    counts = program.add(held.step("whole", [lambda k: len(lists[k])], *single))
    squares = held.step("real", [lambda i: i * i], Place(where), Place(counts))
    program.add(squares)
    for k in (1, 2, 0, 2):
        chosen[0] = k
        program.run()
        np.testing.assert_array_equal(program.found[2], lists[k][None] ** 2)
    before = program.found[2]
    program.run()
    assert program.found[2] is before, "of as many items, nothing is made anew"


def test_a_step_that_would_write_beyond_its_array_is_not_begun():
    held, program = Held(), Program(compiled_loops())
    items = np.arange(8)
    length = place([2], np.int32)
    asked = []
    many = Place(np.array([address(items)])), length
    program.add(held.step("whole", [lambda i: asked.append(i) or i], *many))
    program.run()
    small = program.found[0]
    length.values[0] = 8
    program.run()
    assert asked == [0, 1, *range(8)]
    np.testing.assert_array_equal(small, [[0, 1]])
    np.testing.assert_array_equal(program.found[0], [range(8)])
