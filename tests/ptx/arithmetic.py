"""Instructions that compute: numbers in, numbers out, each thread for itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.ptx.decode import Decoder, instruction
from tests.ptx.registers import DTYPES, Active, Array, Step
from tests.ptx.text import Fault, Instruction, vector

if TYPE_CHECKING:
    from tests.ptx.machine import Run

INTEGERS = [f"{sign}{bits}" for sign in "su" for bits in (16, 32, 64)]
FLOATS = ["f32", "f64"]
TWICE = {"s16": "s32", "u16": "u32", "s32": "s64", "u32": "u64"}
Function = Callable[..., Array]


def elementwise(opcodes: str | list[str], kinds: str | list[str], function: Function) -> None:
    """opcodes: the result has the type of its last part where `kinds` is one word. kinds: of the operands."""
    for opcode in [opcodes] if isinstance(opcodes, str) else opcodes:
        _elementwise(opcode, [kinds] if isinstance(kinds, str) else kinds, function)


def _elementwise(opcode: str, kinds: list[str], function: Function) -> None:
    @instruction(opcode)
    def make(d: Decoder, what: Instruction) -> Step:
        if len(what.operands) != len(kinds) + 1:
            raise Fault(f"{opcode} has {len(kinds)} operands: {what.text}")
        write = d.writer(what.operands[0])
        read = [d.reader(operand, kind) for operand, kind in zip(what.operands[1:], kinds, strict=True)]
        if len(read) == 1:
            return lambda run, active: write(run, function(read[0](run)), active)
        if len(read) == 2:
            return lambda run, active: write(run, function(read[0](run), read[1](run)), active)
        return lambda run, active: write(run, function(*[r(run) for r in read]), active)


# ---- integers


def _quotient(a: Array, b: Array) -> Array:
    """Towards zero; all bits where b is 0."""
    one = np.where(b == 0, 1, b).astype(a.dtype)
    floor = a // one
    up = (a % one != 0) & ((a < 0) != (one < 0))
    return np.where(b == 0, np.array(-1).astype(a.dtype), floor + up.astype(a.dtype))


def _remainder(a: Array, b: Array) -> Array:
    return a - _quotient(a, b) * b


def _high(a: Array, b: Array) -> Array:
    """The upper half of the product."""
    bits = 8 * a.dtype.itemsize
    if bits < 64:
        wide = np.dtype(f"{a.dtype.kind}{a.dtype.itemsize * 2}")
        return (a.astype(wide) * b.astype(wide) >> bits).astype(a.dtype)
    exact = a.astype(object) * b.astype(object)
    return np.array([int(v) >> 64 for v in exact], object).astype(a.dtype)


def _shift(of: Callable[[Array, Array], Array], signed: bool) -> Function:
    """Shifts by as many bits as there are, or more, leave the sign or nothing."""

    def function(a: Array, by: Array) -> Array:
        bits = 8 * a.dtype.itemsize
        moved = of(a, np.minimum(by, bits - 1).astype(a.dtype))
        return moved if signed else np.where(by < bits, moved, a.dtype.type(0))

    return function


for _kind in INTEGERS:
    elementwise(f"add.{_kind}", [_kind] * 2, np.add)
    elementwise(f"sub.{_kind}", [_kind] * 2, np.subtract)
    elementwise(f"mul.lo.{_kind}", [_kind] * 2, np.multiply)
    elementwise(f"mul.hi.{_kind}", [_kind] * 2, _high)
    elementwise(f"mad.lo.{_kind}", [_kind] * 3, lambda a, b, c: a * b + c)
    elementwise(f"div.{_kind}", [_kind] * 2, _quotient)
    elementwise(f"rem.{_kind}", [_kind] * 2, _remainder)
    elementwise(f"min.{_kind}", [_kind] * 2, np.minimum)
    elementwise(f"max.{_kind}", [_kind] * 2, np.maximum)
    elementwise(f"shr.{_kind}", [_kind, "u32"], _shift(np.right_shift, _kind[0] == "s"))
    if _kind[0] == "s":
        elementwise(f"neg.{_kind}", _kind, np.negative)
        elementwise(f"abs.{_kind}", _kind, np.abs)
    if _kind in TWICE:
        _wide = DTYPES[TWICE[_kind]]
        elementwise(f"mul.wide.{_kind}", [_kind] * 2, lambda a, b, w=_wide: a.astype(w) * b.astype(w))
        elementwise(
            f"mad.wide.{_kind}", [_kind, _kind, TWICE[_kind]], lambda a, b, c, w=_wide: a.astype(w) * b.astype(w) + c
        )
for _bits in ("16", "32", "64"):
    elementwise(f"shl.b{_bits}", [f"b{_bits}", "u32"], _shift(np.left_shift, False))
    elementwise(f"shr.b{_bits}", [f"b{_bits}", "u32"], _shift(np.right_shift, False))
for _kind in ("b16", "b32", "b64", "pred"):
    elementwise(f"and.{_kind}", [_kind] * 2, np.bitwise_and)
    elementwise(f"or.{_kind}", [_kind] * 2, np.bitwise_or)
    elementwise(f"xor.{_kind}", [_kind] * 2, np.bitwise_xor)
    elementwise(f"not.{_kind}", _kind, np.invert)


def _ones(a: Array) -> Array:
    return np.array([int(v).bit_count() for v in a]).astype(np.uint32)


def _leading(a: Array) -> Array:
    return np.array([8 * a.dtype.itemsize - int(v).bit_length() for v in a]).astype(np.uint32)


def _mask(width: Array) -> Array:
    """So many ones, 64 at most."""
    width = np.minimum(width.astype(np.uint64), np.uint64(64))
    return np.where(width == 0, np.uint64(0), ~np.uint64(0) >> (np.uint64(64) - np.maximum(width, np.uint64(1))))


def _insert(a: Array, b: Array, at: Array, width: Array) -> Array:
    at, width = at & 255, width & 255
    bits = 8 * a.dtype.itemsize
    mask = np.where(at < bits, _mask(width) << np.minimum(at, 63).astype(np.uint64), np.uint64(0))
    moved = a.astype(np.uint64) << np.minimum(at, 63).astype(np.uint64)
    return ((b.astype(np.uint64) & ~mask) | (moved & mask)).astype(a.dtype)


def _extract(a: Array, at: Array, width: Array) -> Array:
    """Of unsigned numbers."""
    at, width = at & 255, width & 255
    moved = np.where(at < 64, a.astype(np.uint64) >> np.minimum(at, 63).astype(np.uint64), np.uint64(0))
    return (moved & _mask(width)).astype(a.dtype)


def _permute(a: Array, b: Array, choice: Array) -> Array:
    """Four bytes of the eight of b, a; bit 3 of a choice repeats the byte's sign."""
    both = a.astype(np.uint64) | b.astype(np.uint64) << np.uint64(32)
    out = np.zeros(1, np.uint64)
    for i in range(4):
        nibble = choice.astype(np.uint64) >> np.uint64(4 * i) & np.uint64(15)
        byte = both >> (nibble & np.uint64(7)) * np.uint64(8) & np.uint64(255)
        byte = np.where(nibble & np.uint64(8), np.where(byte & np.uint64(128), 255, 0), byte).astype(np.uint64)
        out = out | byte << np.uint64(8 * i)
    return out.astype(np.uint32)


def _funnel(left: bool) -> Function:
    """32 bits of the 64 of b, a, moved by 0 to 31."""

    def function(a: Array, b: Array, by: Array) -> Array:
        both, by = a.astype(np.uint64) | b.astype(np.uint64) << np.uint64(32), by.astype(np.uint64) & np.uint64(31)
        return ((both << by) >> np.uint64(32) if left else both >> by).astype(np.uint32)

    return function


for _bits in ("32", "64"):
    elementwise(f"popc.b{_bits}", f"u{_bits}", _ones)
    elementwise(f"clz.b{_bits}", f"u{_bits}", _leading)
    elementwise(f"bfe.u{_bits}", [f"u{_bits}", "u32", "u32"], _extract)
    elementwise(f"bfi.b{_bits}", [f"u{_bits}", f"u{_bits}", "u32", "u32"], _insert)
elementwise("prmt.b32", ["u32"] * 3, _permute)
elementwise("shf.l.wrap.b32", ["u32"] * 3, _funnel(True))
elementwise("shf.r.wrap.b32", ["u32"] * 3, _funnel(False))

# ---- floats

_HALF, _REST = np.int64(1 << 28), np.int64((1 << 29) - 1)  # of the 29 bits that float64 has more than float32


def fma32(a: Array, b: Array, c: Array) -> Array:
    """a * b + c of float32, rounded once.

    The product is exact in float64, and the sum is rounded there: to odd where that could decide how it is rounded to float32
    (Boldo and Melquiond, 2008).
    """
    product, c = a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64)
    total = product + c
    doubtful = (total.view(np.int64) & _REST) == _HALF
    small = np.abs(total) < 2.0**-125
    if small.any():  # zeros, mostly: those are as they are
        doubtful |= small & (total != 0)
    if doubtful.any():
        product, c = np.broadcast_arrays(product, c)
        rest = product - (total - (total - product)) + (c - (total - product))  # what the sum was rounded by
        bits = total.view(np.int64)
        away = (rest > 0) == (total > 0)
        odd = np.where(away, bits | 1, bits - (bits & 1 == 0))
        total = np.where(doubtful & (rest != 0) & np.isfinite(rest) & (bits & 1 == 0), odd.view(np.float64), total)
    return total.astype(np.float32)


def _one_nan(function: Function) -> Function:
    """NaN where either is NaN."""
    return lambda a, b: np.where(np.isnan(a) | np.isnan(b), a.dtype.type(np.nan), function(a, b))


def _signed_zero(smaller: bool) -> Function:
    """min and max, for which -0 is less than +0; NaN only where both are."""

    def function(a: Array, b: Array) -> Array:
        found = np.fmin(a, b) if smaller else np.fmax(a, b)
        both_zero = (a == 0) & (b == 0)
        sign = np.signbit(a) | np.signbit(b) if smaller else np.signbit(a) & np.signbit(b)
        return np.where(both_zero, np.where(sign, -a.dtype.type(0), a.dtype.type(0)), found)

    return function


for _kind in FLOATS:
    elementwise([f"add.{_kind}", f"add.rn.{_kind}"], [_kind] * 2, np.add)
    elementwise([f"sub.{_kind}", f"sub.rn.{_kind}"], [_kind] * 2, np.subtract)
    elementwise([f"mul.{_kind}", f"mul.rn.{_kind}"], [_kind] * 2, np.multiply)
    elementwise(f"div.rn.{_kind}", [_kind] * 2, np.divide)
    elementwise(f"sqrt.rn.{_kind}", _kind, np.sqrt)
    elementwise(f"rcp.rn.{_kind}", _kind, np.reciprocal)
    elementwise(f"neg.{_kind}", _kind, np.negative)
    elementwise(f"abs.{_kind}", _kind, np.abs)
    elementwise(f"min.{_kind}", [_kind] * 2, _signed_zero(True))
    elementwise(f"max.{_kind}", [_kind] * 2, _signed_zero(False))
    elementwise(f"copysign.{_kind}", [_kind] * 2, lambda a, b: np.copysign(b, a))
elementwise("min.NaN.f32", ["f32"] * 2, _one_nan(_signed_zero(True)))
elementwise("max.NaN.f32", ["f32"] * 2, _one_nan(_signed_zero(False)))
elementwise("fma.rn.f32", ["f32"] * 3, fma32)
elementwise("fma.rn.f64", ["f64"] * 3, lambda a, b, c: (a.astype(np.longdouble) * b + c).astype(np.float64))

# ---- choice

for _kind in ("b16", "b32", "b64", "f32", "f64"):
    elementwise(f"selp.{_kind}", [_kind, _kind, "pred"], lambda a, b, p: np.where(p, a, b))

_SIGNED = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
_UNSIGNED = {"lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal}
_JOINS = {"": None, ".and": np.logical_and, ".or": np.logical_or, ".xor": np.logical_xor}


def _ordered(compare: Function) -> Function:
    return lambda a, b: compare(a, b) & ~(np.isnan(a) | np.isnan(b))


def _unordered(compare: Function) -> Function:
    return lambda a, b: compare(a, b) | np.isnan(a) | np.isnan(b)


def _comparisons(kind: str) -> dict[str, Function]:
    if kind[0] == "f":
        found: dict[str, Function] = {name: _ordered(compare) for name, compare in _SIGNED.items()}
        found |= {f"{name}u": _unordered(compare) for name, compare in _SIGNED.items()}
        found["num"] = lambda a, b: ~(np.isnan(a) | np.isnan(b))
        found["nan"] = lambda a, b: np.isnan(a) | np.isnan(b)
        return found
    if kind[0] == "b":
        return {"eq": np.equal, "ne": np.not_equal}
    return {**_SIGNED, **(_UNSIGNED if kind[0] == "u" else {})}


def _add_comparison(name: str, join: str, kind: str, compare: Function) -> None:
    @instruction(f"setp.{name}{join}.{kind}")
    def make(d: Decoder, what: Instruction) -> Step:
        if "|" in what.operands[0]:
            raise Fault(f"unknown: two results of {what.text}")
        write, a, b = d.writer(what.operands[0]), d.reader(what.operands[1], kind), d.reader(what.operands[2], kind)
        together = _JOINS[join]
        if together is None:
            return lambda run, active: write(run, compare(a(run), b(run)), active)
        negated = what.operands[3].startswith("!")
        third = d.reader(what.operands[3].lstrip("!"), "pred")
        return lambda run, active: write(run, together(compare(a(run), b(run)), third(run) ^ negated), active)


for _kind in [*INTEGERS, *FLOATS, "b16", "b32", "b64"]:
    for _name, _compare in _comparisons(_kind).items():
        for _join in _JOINS:
            _add_comparison(_name, _join, _kind, _compare)

# ---- other types

_LIMITS: dict[str, tuple[Any, Any]] = {k: (np.iinfo(DTYPES[k]).min, np.iinfo(DTYPES[k]).max) for k in INTEGERS}
_ROUNDINGS = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


def _to_integer(rounding: str, to: str) -> Function:
    """What is beyond the type becomes its nearest number, NaN 0."""
    low, high = _LIMITS[to]

    def function(a: Array) -> Array:
        whole = _ROUNDINGS[rounding](a.astype(np.float64))
        inside = np.where(np.isnan(whole) | (whole <= low) | (whole >= high), 0, whole).astype(DTYPES[to])
        return np.where(whole >= high, high, np.where(whole <= low, low, inside)).astype(DTYPES[to])

    return function


def _tf32(a: Array) -> Array:
    """To the nearest number of 11 significant bits, halves away from zero; infinities and NaN stay."""
    bits = a.view(np.uint32)
    rounded = bits + np.uint32(0x1000) & np.uint32(0xFFFFE000)
    return np.where(np.isfinite(a), rounded, bits & np.uint32(0xFFFFE000)).astype(np.uint32)


_ALL = [f"{letter}{bits}" for letter in "su" for bits in (8, 16, 32, 64)]
for _from in _ALL:
    for _to in _ALL:
        elementwise(f"cvt.{_to}.{_from}", _from, lambda a, t=DTYPES[_to]: a.astype(t))
    for _to in FLOATS:
        elementwise(f"cvt.rn.{_to}.{_from}", _from, lambda a, t=DTYPES[_to]: a.astype(t))
for _from in FLOATS:
    for _rounding in _ROUNDINGS:
        for _to in INTEGERS:
            elementwise(f"cvt.{_rounding}.{_to}.{_from}", _from, _to_integer(_rounding, _to))
        elementwise(f"cvt.{_rounding}.{_from}.{_from}", _from, _ROUNDINGS[_rounding])
elementwise("cvt.f64.f32", "f32", lambda a: a.astype(np.float64))
elementwise("cvt.rn.f32.f64", "f64", lambda a: a.astype(np.float32))
elementwise("cvt.rna.tf32.f32", "f32", _tf32)
for _space in ("global", "shared", "local"):
    elementwise([f"cvta.{_space}.u64", f"cvta.to.{_space}.u64"], "u64", lambda a: a)

# ---- moves


@instruction(
    *(f"mov.{kind}" for kind in ("pred", "b16", "b32", "b64", "u16", "u32", "u64", "s32", "s64", "f32", "f64"))
)
def _mov(d: Decoder, what: Instruction) -> Step:
    """A register, a number, or pieces from and to a whole."""
    kind = what.opcode.partition(".")[2]
    to, source = what.operands
    if not to.startswith("{") and not source.startswith("{"):
        write, read = d.writer(to), d.reader(source, kind)
        return lambda run, active: write(run, read(run), active)
    parts = vector(to if to.startswith("{") else source)
    bits = int(kind[1:]) // len(parts)
    part = f"b{bits}"
    if to.startswith("{"):
        writers, whole = [d.writer(p) for p in parts], d.reader(source, f"b{kind[1:]}")

        def cut(run: Run, active: Active) -> None:
            value = whole(run)
            for i, write in enumerate(writers):
                write(run, (value >> value.dtype.type(bits * i)).astype(DTYPES[part]), active)

        return cut
    join, readers = d.writer(to), [d.reader(p, part) for p in parts]
    dtype = DTYPES[f"b{kind[1:]}"]

    def joined(run: Run, active: Active) -> None:
        value = np.zeros(1, dtype)
        for i, read in enumerate(readers):
            value = value | read(run).astype(dtype) << dtype.type(bits * i)
        join(run, value, active)

    return joined
