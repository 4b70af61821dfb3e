import ctypes

import numpy as np
import pytest

from esscher.branch.observation.loops import compiled_loops
from esscher.branch.observation.program import address

REAL = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_int64)
WITHIN = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_int64, ctypes.c_int64)
OF = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
WHOLE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int64)
POINTER = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)


def run(name, functions, contexts, items, kind):
    table = np.array([ctypes.cast(f, ctypes.c_void_p).value for f in functions], dtype=np.int64)
    items = np.array(items, dtype=np.int64)
    out = np.full((len(functions) + 1, len(items)), -77, dtype=kind)
    loop = getattr(compiled_loops(), name)
    loop(address(table), len(table), *contexts, address(items), len(items), address(out))
    assert np.all(out[-1] == -77), "nothing is written beyond the end"
    return out[:-1]


@pytest.mark.parametrize("items", [[], [3], [5, -2, 7]])
def test_every_loop_calls_every_getter_for_every_item(items):
    x = np.array(items, dtype=float).reshape(1, -1)
    half, square = REAL(lambda i: i / 2), REAL(lambda i: i * i)
    np.testing.assert_array_equal(
        run("real", [half, square], (), items, float), np.concatenate([x / 2, x * x])
    )
    within = WITHIN(lambda a, i: a - i)
    np.testing.assert_array_equal(run("real_within", [within], (100,), items, float), 100 - x)
    of = OF(lambda a, b, i: a / 8 + 10 * b + i)
    np.testing.assert_array_equal(run("real_of", [of], (4, 3), items, float), x + 30.5)
    double, minus = WHOLE(lambda i: 2 * i), WHOLE(lambda i: -i)
    np.testing.assert_array_equal(
        run("whole", [double, minus], (), items, np.int32), np.concatenate([2 * x, -x])
    )
    far = POINTER(lambda i: i + (1 << 40))
    np.testing.assert_array_equal(run("pointer", [far], (), items, np.int64), x + (1 << 40))


def test_blocks_are_joined_in_order_and_may_be_empty():
    blocks = [np.arange(3.0), np.zeros(0), np.array([9.5]), np.arange(4.0) - 7]
    places = np.array([address(block) for block in blocks])
    lengths = np.array([len(block) for block in blocks], dtype=np.int32)
    out = np.full(9, -77.0)
    compiled_loops().join(address(places), address(lengths), len(blocks), address(out))
    np.testing.assert_array_equal(out, [*np.concatenate(blocks), -77])


def test_the_loops_are_compiled_once():
    assert compiled_loops() is compiled_loops()
