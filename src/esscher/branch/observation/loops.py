"""Compiled loops that call one C function after another for many items.

A getter of a C library costs some nanoseconds, its call from Python a hundred times that. The loops
here take the getters' addresses, so that one call from Python reads many values of many items. They
are a few lines of machine code each, made by llvmlite in milliseconds: no compiler is needed, and
nothing has to be kept on disk.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from esscher.errors import ConfigError
from esscher.kit.require import require

__all__ = ["KINDS", "STEP", "Loops", "compiled_loops"]

EXTRA = "fast"
Call = Callable[..., None]


class Loops(NamedTuple):
    """Loops over items, all arguments plain integers: addresses and counts.

    `LOOP(getters, K, contexts …, items, N, out)` writes getter_k(contexts …, item_i) to
    out[k * N + i], for the K addresses at `getters` and the N at `items`.

    `run(steps, count)` goes through a table of loops, one call for all: rows of 9 words, which are
    the loop's position among the five, getters, K, the places of both contexts, those of the items'
    address and of N, as int32, the N that `out` is made for, and out. It ends before the first row
    whose N is another, and gives the number of rows done.

    Attributes:
        real: double getter(item).
        real_within: double getter(context, item).
        real_of: double getter(context, other context, item).
        whole: int getter(item), written as int32.
        pointer: pointer getter(item), written as int64.
        join: `join(blocks, lengths, N, out)` writes the N blocks one after another; they are of 8
            byte words, their lengths int32.
        run: the five above by a table.
        engine: owns the machine code.
    """

    real: Call
    real_within: Call
    real_of: Call
    whole: Call
    pointer: Call
    join: Call
    run: Callable[[int, int], int]
    engine: Any


KINDS = ("real", "real_within", "real_of", "whole", "pointer")
"""Loops over getters, in the order a table numbers them by."""
CONTEXTS = (0, 1, 2, 0, 0)
"""Of their getters."""
STEP = 9
"""Words in a row of a table."""


@functools.cache
def compiled_loops() -> Loops:
    """The loops, compiled once in a process.

    Raises:
        MissingExtra: if llvmlite, which numba brings, is not installed.
        ConfigError: if it cannot compile for this machine.
    """
    ir: Any = require("llvmlite.ir", EXTRA)
    binding: Any = require("llvmlite.binding", EXTRA)
    module = ir.Module("esscher_branch_loops")
    results = (ir.DoubleType(),) * 3 + (ir.IntType(32), ir.IntType(64))
    getters = [
        _write_getters(ir, module, name, result, contexts)
        for name, result, contexts in zip(KINDS, results, CONTEXTS, strict=True)
    ]
    _write_join(ir, module)
    _write_run(ir, module, getters)
    try:
        engine = _machine_code(binding, str(module))
    except RuntimeError as error:
        raise ConfigError(f"llvmlite could not compile for this machine: {error}") from error
    arguments = {name: 5 + contexts for name, contexts in zip(KINDS, CONTEXTS, strict=True)}
    calls = {
        name: _function(engine, name, count)
        for name, count in (arguments | {"join": 4, "run": 2}).items()
    }
    return Loops(**calls, engine=engine)


def _function(engine: Any, name: str, arguments: int) -> Any:
    result = ctypes.c_int64 if name == "run" else None
    kind = ctypes.PYFUNCTYPE(result, *[ctypes.c_int64] * arguments)
    return kind(engine.get_function_address(name))


def _machine_code(binding: Any, text: str) -> Any:
    with contextlib.suppress(RuntimeError):  # llvmlite 0.45 and later do this by themselves
        binding.initialize()
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    machine = binding.Target.from_default_triple().create_target_machine(opt=2)
    parsed = binding.parse_assembly(text)
    parsed.verify()
    engine = binding.create_mcjit_compiler(parsed, machine)
    engine.finalize_object()
    return engine


def _write_getters(ir: Any, module: Any, name: str, result: Any, contexts: int) -> Any:
    word = ir.IntType(64)
    kind = ir.FunctionType(ir.VoidType(), [word] * (5 + contexts))
    function = ir.Function(module, kind, name)
    getters, getter_count, *within, items, count, out = function.args
    getter_type = ir.FunctionType(result, [word] * (contexts + 1)).as_pointer()
    builder = ir.IRBuilder(function.append_basic_block())
    with _loop(ir, builder, getter_count) as k:
        getter = builder.inttoptr(_load(builder, getters, k, word), getter_type)
        first = builder.mul(k, count)
        with _loop(ir, builder, count) as i:
            value = builder.call(getter, [*within, _load(builder, items, i, word)])
            _store(builder, out, builder.add(first, i), value)
    builder.ret_void()
    return function


def _write_run(ir: Any, module: Any, loops: list[Any]) -> None:
    word, short = ir.IntType(64), ir.IntType(32)
    function = ir.Function(module, ir.FunctionType(word, [word] * 2), "run")
    steps, count = function.args
    builder = ir.IRBuilder(function.append_basic_block())
    with _loop(ir, builder, count) as step:
        first = builder.mul(step, word(STEP))
        kind, getters, known, one, other, items, length, size, out = (
            _load(builder, steps, builder.add(first, word(k)), word) for k in range(STEP)
        )
        n = builder.sext(_load(builder, length, word(0), short), word)
        with builder.if_then(builder.icmp_signed("!=", n, size), likely=False):
            builder.ret(step)
        within = [_load(builder, place, word(0), word) for place in (one, other)]
        held = _load(builder, items, word(0), word)
        after = builder.append_basic_block()
        choice = builder.switch(kind, after)
        for number, (loop, contexts) in enumerate(zip(loops, CONTEXTS, strict=True)):
            block = builder.append_basic_block()
            choice.add_case(word(number), block)
            builder.position_at_end(block)
            builder.call(loop, [getters, known, *within[:contexts], held, n, out])
            builder.branch(after)
        builder.position_at_end(after)
    builder.ret(count)


def _write_join(ir: Any, module: Any) -> None:
    word, short = ir.IntType(64), ir.IntType(32)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [word] * 4), "join")
    blocks, lengths, count, out = function.args
    builder = ir.IRBuilder(function.append_basic_block())
    place = builder.alloca(word)
    builder.store(word(0), place)
    with _loop(ir, builder, count) as i:
        block = _load(builder, blocks, i, word)
        length = builder.sext(_load(builder, lengths, i, short), word)
        start = builder.load(place)
        with _loop(ir, builder, length) as j:
            _store(builder, out, builder.add(start, j), _load(builder, block, j, word))
        builder.store(builder.add(start, length), place)
    builder.ret_void()


@contextlib.contextmanager
def _loop(ir: Any, builder: Any, count: Any) -> Any:
    """Counts from 0 to `count` - 1; what is built within is the body, and is given the counter."""
    word = ir.IntType(64)
    before = builder.block
    test, body, after = (builder.append_basic_block() for _ in range(3))
    builder.branch(test)
    builder.position_at_end(test)
    counter = builder.phi(word)
    counter.add_incoming(word(0), before)
    builder.cbranch(builder.icmp_signed("<", counter, count), body, after)
    builder.position_at_end(body)
    yield counter
    counter.add_incoming(builder.add(counter, word(1)), builder.block)
    builder.branch(test)
    builder.position_at_end(after)


def _address(builder: Any, base: Any, index: Any, kind: Any) -> Any:
    size = 4 if getattr(kind, "width", 64) == 32 else 8
    offset = builder.mul(index, index.type(size))
    return builder.inttoptr(builder.add(base, offset), kind.as_pointer())


def _load(builder: Any, base: Any, index: Any, kind: Any) -> Any:
    return builder.load(_address(builder, base, index, kind))


def _store(builder: Any, base: Any, index: Any, value: Any) -> None:
    builder.store(value, _address(builder, base, index, value.type))
