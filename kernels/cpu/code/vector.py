"""Vectors in Numba: kernels are written in Python and read like the mathematics.

    V = vectors(target)
    def kernel(arguments, chunk, scratch):
        x = V.floats(arguments[0])                       # an address as a float pointer
        v = V.load(x, 16 * chunk)
        V.store(V.select(v > 0.0, v, 0.5 * v), x, 16 * chunk)

`vectors(target)` is a module object, because Numba resolves a module's attributes while it compiles. Vectors and masks
are values: they live in registers. Arithmetic and comparisons between vectors, or between a vector and a number, use
Python's operators; a number is rounded to float32 first. Pointers move with `V.offset(p, n)` only: LLVM 22 can
miscompile integer arithmetic on addresses.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import typing
from numba.core.datamodel import models
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import intrinsic, register_model

from ..problem import FOREIGN
from ..target import TARGETS, Target
from .emit import F32, I1, I64, Emitter, declare
from .lower import lowered

FLOATS = types.CPointer(types.float32)
INTEGERS = types.CPointer(types.int64)
KERNEL = (INTEGERS, types.int64, FLOATS)  # arguments, chunk, scratch


class VectorType(types.Type):
    """`lanes` float32 in a register."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__(name=f"float32x{lanes}")


class MaskType(types.Type):
    """`lanes` truth values."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__(name=f"maskx{lanes}")


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: VectorType) -> None:
        super().__init__(manager, kind, ir.VectorType(F32, kind.lanes))


@register_model(MaskType)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: MaskType) -> None:
        super().__init__(manager, kind, ir.VectorType(I1, kind.lanes))


# ---- operators

_ANY_TARGET = {target.lanes: target for target in TARGETS.values()}


def _as_vector(context: Any, builder: Any, value: Any, kind: Any, lanes: int) -> Any:
    """A vector as it is; a number as float32 in every lane."""
    if isinstance(kind, VectorType):
        return value
    return Emitter(builder, _ANY_TARGET[lanes]).splat(context.cast(builder, value, kind, types.float32))


def _binary(function: Any, build: Callable[..., Any], compares: bool) -> None:
    class Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            vector = [kind for kind in args if isinstance(kind, VectorType)]
            if len(args) != 2 or not vector or not all(isinstance(kind, VectorType | types.Number) for kind in args):
                return None
            return typing.signature(MaskType(vector[0].lanes) if compares else vector[0], *args)

    infer_global(function)(Template)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lanes = sig.return_type.lanes
        x, y = (_as_vector(context, builder, value, kind, lanes) for value, kind in zip(args, sig.args, strict=True))
        return build(builder, x, y)

    for left, right in ((VectorType, VectorType), (VectorType, types.Number), (types.Number, VectorType)):
        lower_builtin(function, left, right)(lower)


for _function, _name in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _binary(_function, lambda b, x, y, _name=_name: getattr(b, _name)(x, y), False)
for _function, _sign in (
    (operator.lt, "<"),
    (operator.le, "<="),
    (operator.gt, ">"),
    (operator.ge, ">="),
    (operator.eq, "=="),
):
    _binary(_function, lambda b, x, y, _sign=_sign: b.fcmp_ordered(_sign, x, y), True)
_binary(operator.ne, lambda b, x, y: b.fcmp_unordered("!=", x, y), True)
_INPLACE = ((operator.iadd, "fadd"), (operator.isub, "fsub"), (operator.imul, "fmul"), (operator.itruediv, "fdiv"))
for _function, _name in _INPLACE:
    _binary(_function, lambda b, x, y, _name=_name: getattr(b, _name)(x, y), False)


def _logical(function: Any, build: Callable[..., Any], count: int, operand: Any) -> None:
    class Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) != count or not all(isinstance(kind, operand) for kind in args):
                return None
            return typing.signature(args[0], *args)

    infer_global(function)(Template)
    lower_builtin(function, *[operand] * count)(lambda context, builder, sig, args: build(builder, *args))


_logical(operator.and_, lambda b, x, y: b.and_(x, y), 2, MaskType)
_logical(operator.or_, lambda b, x, y: b.or_(x, y), 2, MaskType)
_logical(operator.invert, lambda b, x: b.not_(x), 1, MaskType)
_logical(operator.neg, lambda b, x: b.fneg(x), 1, VectorType)

# ---- functions


def emitted(target: Target, result: Any, arguments: tuple[Any, ...], body: Callable[..., Any], doc: str = "") -> Any:
    """An intrinsic of fixed types whose code is `body(emitter, *values)`; it returns nothing when result is None.

    Numbers are converted to the argument's type. This is how register tiles become callable from a kernel.
    """

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lanes = target.lanes
        values = [
            _as_vector(context, builder, value, kind, lanes)
            if isinstance(wanted, VectorType)
            else context.cast(builder, value, kind, wanted)
            for value, kind, wanted in zip(args, sig.args, arguments, strict=True)
        ]
        value = body(Emitter(builder, target), *values)
        return context.get_dummy_value() if result is None else value

    return _intrinsic(result, arguments, code, doc)


def piece(arguments: tuple[Any, ...], function: Any, result: Any = None) -> Any:
    """An intrinsic of fixed types that is a function written as kernels are, without vectors among its arguments: a part of a
    kernel, or what several have in common. Numba lowers it once; LLVM makes it a part of each kernel that calls it.
    """
    returned = types.void if result is None else result
    once = cache(lambda: lowered(function, arguments, returned))

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        values = [context.cast(builder, *each) for each in zip(args, sig.args, arguments, strict=True)]
        library, described = once()
        context.active_code_library.add_linking_library(library)
        kinds = typing.signature(returned, *arguments)
        _, value = context.call_internal_no_propagate(builder, described, kinds, values)
        return context.get_dummy_value() if result is None else value

    return _intrinsic(result, arguments, code, function.__doc__ or "")


def _intrinsic(result: Any, arguments: tuple[Any, ...], code: Callable[..., Any], doc: str) -> Any:
    """What Numba calls as a function of these types, numbers converted to them; nothing is returned when result is None."""
    returned = types.void if result is None else result

    def accept(kinds: list[Any]) -> Any:
        if len(kinds) != len(arguments):
            return None
        for kind, wanted in zip(kinds, arguments, strict=True):
            number = isinstance(wanted, VectorType | types.Number) and isinstance(kind, types.Number)
            if kind != wanted and not number:
                return None
        return typing.signature(returned, *kinds), code

    names = ", ".join(f"a{i}" for i in range(len(arguments)))
    scope: dict[str, Any] = {"accept": accept}
    exec(f"def typer(typingctx, {names}):\n    return accept([{names}])", scope)
    scope["typer"].__doc__ = doc
    return intrinsic(scope["typer"])


NOTE = 16  # floats from the note to the scratch: a cache line


@dataclass(frozen=True)
class Linked:
    """A kernel function that calls `external` functions, and what they do: name -> (argument types, body(emitter,
    *values)).

    Numba takes most of a kernel's compile time. A family whose specializations differ in their register tile or in an
    expression alone gives the same function object to all of them; Numba then lowers it once in a process, and the rest is
    linked into it. unrolled: whether LLVM may unroll loops; a tile that it unrolls further runs out of registers.
    """

    function: Any
    bodies: dict[str, tuple[tuple[Any, ...], Callable[..., Any]]]
    unrolled: bool = False


def external(name: str, arguments: tuple[Any, ...]) -> Any:
    """An intrinsic that calls the function of that name, which `Linked.bodies` defines. Arguments are numbers and
    pointers.
    """

    def body(e: Emitter, *values: Any) -> None:
        e.b.call(declare(e.b.module, name, ir.VoidType(), [value.type for value in values]), values)

    return emitted(TARGETS["sse2"], None, arguments, body)


def define(target: Target, bodies: dict[str, tuple[tuple[Any, ...], Callable[..., Any]]]) -> str:
    """The LLVM IR text of the bodies, one function each."""
    module = ir.Module()
    kinds = {FLOATS: F32.as_pointer(), INTEGERS: I64.as_pointer(), types.int64: I64, types.float64: ir.DoubleType()}
    for name, (arguments, body) in bodies.items():
        function = declare(module, name, ir.VoidType(), [kinds[kind] for kind in arguments])
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        body(Emitter(builder, target), *function.args)
        builder.ret_void()
    return str(module)


def _two_steps(e: Emitter, i: Any, n: Any, far: Any, near: Any) -> Any:
    b = e.b
    below, above, divided, done = (b.append_basic_block(name) for name in ("below", "above", "divided", "done"))
    b.cbranch(b.icmp_signed("<", i, n), below, above)
    b.position_at_end(below)
    first = b.mul(i, near)
    b.branch(done)
    b.position_at_end(above)
    only = b.mul(i, far)
    b.cbranch(b.icmp_signed("==", n, ir.Constant(I64, 1)), done, divided)
    b.position_at_end(divided)
    both = b.add(b.mul(b.sdiv(i, n), far), b.mul(b.srem(i, n), near))
    b.branch(done)
    b.position_at_end(done)
    result = b.phi(I64)
    for value, block in ((first, below), (only, above), (both, divided)):
        result.add_incoming(value, block)
    return result


@cache
def vectors(target: Target) -> Any:
    """The vector operations of a target, as a module that kernels close over. `n` and `i` are integers, `p` and `q`
    pointers.

    lanes                                 the number of lanes, a constant
    floats(n) integers(n) real(n)         an argument as float pointer, int64 pointer, or the float64 of those bits
    offset(p, n) integer_offset(q, n)     p + n elements
    load(p, n) store(v, p, n)             a vector at p + n floats, unaligned
    load_first(p, n, count) store_first(v, p, n, count)    the first count lanes only; other lanes load as zero, and stay as they are
    broadcast(p, n) splat(f)              the float at p + n, or a number, in every lane
    zero() foreign()                      all lanes 0, or FOREIGN
    fma(x, y, z)                          x * y + z, rounded once where the target has it
    first(count)                          the mask of the first count lanes (count may be <= 0 or >= lanes)
    select(m, x, y)                       x where m holds, else y
    maximum(x, y) minimum(x, y)           NaN when either is NaN
    total(v) largest(v)                   over the lanes, in a fixed order: float32
    exp(v) log(v) tanh(v) sqrt(v) absolute(v) is_nan(v)
    prefetch(p, n)                        the cache line of p + n, into the second level cache
    note(p)                               of scratch, the int64 ahead of it that says what it holds; zero when a step begins
    place(p)                              its floats from the address 0
    two_steps(i, n, far, near)            i // n * far + i % n * near, for i >= 0: without a division where there is one step only
    """
    vector, mask = VectorType(target.lanes), MaskType(target.lanes)
    f, n, p, q = types.float32, types.int64, FLOATS, INTEGERS
    module = ModuleType(f"{target.name}_vectors")
    double = ir.DoubleType()
    table: dict[str, tuple[Any, tuple[Any, ...], Callable[..., Any]]] = {
        "floats": (p, (n,), lambda e, a: e.b.inttoptr(a, F32.as_pointer())),
        "integers": (q, (n,), lambda e, a: e.b.inttoptr(a, I64.as_pointer())),
        "real": (types.float64, (n,), lambda e, a: e.b.bitcast(a, double)),
        "offset": (p, (p, n), lambda e, a, i: e.b.gep(a, [i])),
        "integer_offset": (q, (q, n), lambda e, a, i: e.b.gep(a, [i])),
        "load": (vector, (p, n), lambda e, a, i: e.load(a, i)),
        "store": (None, (vector, p, n), lambda e, v, a, i: e.store(v, a, i)),
        "load_first": (vector, (p, n, n), lambda e, a, i, c: e.masked_load(e.at(a, i), e.first_lanes(c))),
        "store_first": (None, (vector, p, n, n), lambda e, v, a, i, c: e.masked_store(v, e.at(a, i), e.first_lanes(c))),
        "broadcast": (vector, (p, n), lambda e, a, i: e.broadcast(a, i)),
        "splat": (vector, (f,), lambda e, a: e.splat(a)),
        "fma": (vector, (vector, vector, vector), lambda e, x, y, z: e.fma(x, y, z)),
        "first": (mask, (n,), lambda e, c: e.first_lanes(c)),
        "select": (vector, (mask, vector, vector), lambda e, m, x, y: e.select(m, x, y)),
        "maximum": (vector, (vector, vector), lambda e, x, y: e.maximum(x, y)),
        "minimum": (vector, (vector, vector), lambda e, x, y: e.minimum(x, y)),
        "total": (f, (vector,), lambda e, v: e.total(v)),
        "largest": (f, (vector,), lambda e, v: e.largest(v)),
        "exp": (vector, (vector,), lambda e, v: e.exp(v)),
        "log": (vector, (vector,), lambda e, v: e.log(v)),
        "tanh": (vector, (vector,), lambda e, v: e.tanh(v)),
        "sqrt": (vector, (vector,), lambda e, v: e.sqrt(v)),
        "absolute": (vector, (vector,), lambda e, v: e.absolute(v)),
        "is_nan": (mask, (vector,), lambda e, v: e.is_nan(v)),
        "prefetch": (None, (p, n), lambda e, a, i: e.prefetch(e.at(a, i), 2)),
        "two_steps": (n, (n,) * 4, _two_steps),
        "place": (n, (p,), lambda e, a: e.b.ashr(e.b.ptrtoint(a, I64), ir.Constant(I64, 2))),
        "note": (q, (p,), lambda e, a: e.b.bitcast(e.b.gep(a, [ir.Constant(I64, -NOTE)]), I64.as_pointer())),
    }
    for name, (result, arguments, body) in table.items():
        setattr(module, name, emitted(target, result, arguments, body, name))
    zero = emitted(target, vector, (), lambda e: e.const(0))
    foreign = emitted(target, vector, (), lambda e: e.const(FOREIGN))
    contents: dict[str, Any] = {"lanes": target.lanes, "zero": zero, "foreign": foreign, "vector": vector}
    for name, value in contents.items():
        setattr(module, name, value)
    return module


def indices(names: tuple[str, ...]) -> Any:
    """A module with the index of each name: kernels read `arguments[A.rows]`."""
    module = ModuleType("arguments")
    for index, name in enumerate(names):
        setattr(module, name, index)
    return module


def expression(target: Target, tree: Any, variables: tuple[str, ...]) -> Any:
    """An intrinsic that computes the expression (nested tuples, see `Emitter.expression`) from one vector per variable."""
    vector = VectorType(target.lanes)

    def body(e: Emitter, *values: Any) -> Any:
        return e.expression(tree, dict(zip(variables, values, strict=True)))

    return emitted(target, vector, (vector,) * len(variables), body)
