"""What kernels are written with: threads, barriers, global and shared memory, vectors of 4 numbers.

    def kernel(arguments, block, _):
        i = i32(block * THREADS + G.thread())
        if i < i32(arguments[COUNT]):
            V.store(V.load(arguments[X], 4 * i) + V.load(arguments[Y], 4 * i), arguments[Y], 4 * i)

`G` is this module and `V` is `vectors(4)`: Numba resolves their names while it compiles. Addresses are int64; places count floats
and are int32. Numba computes int32 + int32 in 64 bits: `i32(...)` around the whole expression lets LLVM compute in 32. Of
numbers that are not negative, `divide` and `remainder` do without Python's rounding down. Float literals are float64:
`f32(...)`, or one of `arguments` by `real`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from ...cpu.code.emit import F32, I32, I64, Emitter, declare
from ...cpu.code.vector import MaskType, VectorType
from ...cpu.code.vector import emitted as emitted_for
from ..target import LEAST
from .compile import llvm_target

GLOBAL, SHARED = 1, 3
TARGET, SCALAR = llvm_target(LEAST), llvm_target(LEAST, 1)
i32, f32, i64 = np.int32, np.float32, np.int64
INT, LONG, FLOAT, BOOL = types.int32, types.int64, types.float32, types.boolean
FOUR = VectorType(4)
ARGUMENTS = types.CPointer(types.int64)
Value = Any


def emitted(result: Any, arguments: tuple[Any, ...], body: Callable[..., Any], doc: str = "") -> Any:
    """An intrinsic of fixed types whose code is `body(emitter, *values)`; vectors have 4 numbers."""
    return emitted_for(TARGET, result, arguments, body, doc)


def constant(value: int) -> Value:
    return ir.Constant(I32, value)


def intrinsic(e: Emitter, name: str, result: Any, values: Sequence[Value] = ()) -> Value:
    return e.b.call(declare(e.b.module, name, result, [v.type for v in values]), list(values))


def assembly(
    e: Emitter, text: str, constraints: str, values: Sequence[Value], results: Sequence[Any] = (), effect: bool = True
) -> list[Value]:
    """PTX as it stands. effect: it reads or writes memory, and stays where it is."""
    kind = ir.VoidType() if not results else results[0] if len(results) == 1 else ir.LiteralStructType(results)
    made = e.b.asm(ir.FunctionType(kind, [v.type for v in values]), text, constraints, list(values), effect)
    if len(results) < 2:
        return [made][: len(results)]
    return [e.b.extract_value(made, i) for i in range(len(results))]


def _special(name: str) -> Callable[[Emitter], Value]:
    return lambda e: intrinsic(e, f"llvm.nvvm.read.ptx.sreg.{name}", I32)


def _bytes(kind: Any) -> int:
    """Of a number of 32 bits, or of a vector of such: at a multiple of that many it lies."""
    return 4 * int(kind.count) if isinstance(kind, ir.VectorType) else 4


# ---- global memory


def pointer(e: Emitter, address: Value, place: Value, kind: Any) -> Value:
    """To `kind` at so many floats behind an address; places are int32, or int64 where offsets may be that far."""
    start = e.b.inttoptr(address, F32.as_pointer(GLOBAL))
    at = place if place.type == I64 else e.b.sext(place, I64)
    return e.b.bitcast(e.b.gep(start, [at]), kind.as_pointer(GLOBAL))


def load(e: Emitter, address: Value, place: Value, kind: Any = F32) -> Value:
    return e.b.load(pointer(e, address, place, kind), align=_bytes(kind))


def store(e: Emitter, value: Value, address: Value, place: Value) -> None:
    e.b.store(value, pointer(e, address, place, value.type), align=_bytes(value.type))


def load_some(e: Emitter, address: Value, place: Value, count: Value) -> Value:
    """The first `count` of 4 numbers, zeros behind them."""
    b, value = e.b, e.const(0)
    for lane in range(4):
        before = b.block
        with b.if_then(b.icmp_signed("<", constant(lane), count)) as _:
            one = load(e, address, b.add(place, constant(lane)))
            inside = b.block
        number = b.phi(F32)
        number.add_incoming(ir.Constant(F32, 0.0), before)
        number.add_incoming(one, inside)
        value = b.insert_element(value, number, constant(lane))
    return value


def unpack(e: Emitter, values: Value, count: int) -> list[Value]:
    """The values of a tuple."""
    return [e.b.extract_value(values, i) for i in range(count)]


def pack(e: Emitter, values: Sequence[Value]) -> Value:
    whole = ir.Constant(ir.ArrayType(values[0].type, len(values)), ir.Undefined)
    for i, value in enumerate(values):
        whole = e.b.insert_value(whole, value, i)
    return whole


# ---- shared memory

_MEMORY = "tile"


def shared(e: Emitter, place: Value, kind: Any) -> Value:
    """A pointer to `kind` at so many floats of the block's shared memory."""
    module = e.b.module
    if _MEMORY not in module.globals:
        array = ir.GlobalVariable(module, ir.ArrayType(F32, 0), _MEMORY, addrspace=SHARED)
        array.linkage, array.align = "external", 1024  # what tensor cores want
    start = e.b.bitcast(module.globals[_MEMORY], F32.as_pointer(SHARED))
    return e.b.bitcast(e.b.gep(start, [place]), kind.as_pointer(SHARED))


def shared_load(e: Emitter, place: Value, kind: Any = F32) -> Value:
    return e.b.load(shared(e, place, kind), align=_bytes(kind))


def shared_store(e: Emitter, value: Value, place: Value) -> None:
    e.b.store(value, shared(e, place, value.type), align=_bytes(value.type))


def barrier(e: Emitter) -> None:
    intrinsic(e, "llvm.nvvm.barrier0", ir.VoidType())


def copy16(e: Emitter, place: Value, to: int, address: Value, source: int, there: Value | None = None) -> None:
    """16 bytes from global to shared memory (an address there), which go on by themselves; zeros where not `there`. to, source: bytes
    behind the addresses.
    """
    size = constant(16) if there is None else e.b.select(there, constant(16), constant(0))
    assembly(e, f"cp.async.cg.shared.global [$0+{to}], [$1+{source}], 16, $2;", "r,l,r", [place, address, size])


def _shared_address(e: Emitter) -> Value:
    return e.b.ptrtoint(shared(e, constant(0), F32), I32)


def wait_for(groups: int) -> Any:
    """Until at most so many groups of the thread's copies are under way."""
    return emitted(None, (), lambda e: assembly(e, f"cp.async.wait_group {groups};", "", []) and None)


@cache
def vectors(lanes: int) -> Any:
    """What works on vectors of 4 numbers, or of one where memory is plain, as a module: load(address, place), store(vector, address,
    place), splat, zero, minus_infinity, maximum, select(mask, x, y), better(x, y): x > y, or NaN where y is none.
    """
    target = TARGET if lanes == 4 else SCALAR
    kind, mask = VectorType(lanes), MaskType(lanes)
    own = ir.VectorType(F32, lanes)
    module = ModuleType(f"vectors_of_{lanes}")

    def read(e: Emitter, address: Value, place: Value) -> Value:
        return load(e, address, place, own) if lanes == 4 else e.splat(load(e, address, place))

    def write(e: Emitter, value: Value, address: Value, place: Value) -> None:
        store(e, value if lanes == 4 else e.b.extract_element(value, constant(0)), address, place)

    def better(e: Emitter, x: Value, y: Value) -> Value:
        return e.b.or_(e.greater(x, y), e.b.and_(e.is_nan(x), e.b.not_(e.is_nan(y))))

    table: dict[str, tuple[Any, tuple[Any, ...], Callable[..., Any]]] = {
        "load": (kind, (LONG, INT), read),
        "store": (None, (kind, LONG, INT), write),
        "splat": (kind, (FLOAT,), lambda e, x: e.splat(x)),
        "zero": (kind, (), lambda e: e.const(0)),
        "minus_infinity": (kind, (), lambda e: e.const(-math.inf)),
        "maximum": (kind, (kind, kind), lambda e, x, y: e.maximum(x, y)),
        "select": (kind, (mask, kind, kind), lambda e, m, x, y: e.select(m, x, y)),
        "better": (mask, (kind, kind), better),
    }
    for name, (result, arguments, body) in table.items():
        setattr(module, name, emitted_for(target, result, arguments, body, name))
    return module


vector = ir.VectorType(F32, 4)
thread = emitted(INT, (), _special("tid.x"))
sync = emitted(None, (), barrier)
divide = emitted(INT, (INT, INT), lambda e, x, y: e.b.udiv(x, y))
remainder = emitted(INT, (INT, INT), lambda e, x, y: e.b.urem(x, y))
real = emitted(FLOAT, (LONG,), lambda e, x: e.b.bitcast(e.b.trunc(x, I32), F32))
load1 = emitted(FLOAT, (LONG, INT), load)
store1 = emitted(None, (FLOAT, LONG, INT), store)
load_int = emitted(INT, (LONG, INT), lambda e, a, i: load(e, a, i, I32))
shared_address = emitted(INT, (), _shared_address)
commit = emitted(None, (), lambda e: assembly(e, "cp.async.commit_group;", "", []) and None)


def of_number(name: str) -> Any:
    """A function of vectors, for one number."""

    def body(e: Emitter, x: Value) -> Value:
        return e.b.extract_element(getattr(e, name)(e.splat(x)), constant(0))

    return emitted_for(SCALAR, FLOAT, (FLOAT,), body, name)


def _shuffle(e: Emitter, value: Value, by: Value) -> Value:
    return intrinsic(e, "llvm.nvvm.shfl.sync.bfly.i32", I32, [constant(-1), value, by, constant(31)])


def _shuffle_float(e: Emitter, value: Value, by: Value) -> Value:
    return e.b.bitcast(_shuffle(e, e.b.bitcast(value, I32), by), F32)


def _larger(e: Emitter, x: Value, y: Value) -> Value:
    return e.b.extract_element(e.maximum(e.splat(x), e.splat(y)), constant(0))


exp, log1p = of_number("exp"), of_number("log1p")
larger = emitted_for(SCALAR, FLOAT, (FLOAT, FLOAT), _larger)  # NaN where one is
# what the thread of the warp has whose number differs in the bits of the second
shuffle, shuffle_float = emitted(INT, (INT, INT), _shuffle), emitted(FLOAT, (FLOAT, INT), _shuffle_float)
