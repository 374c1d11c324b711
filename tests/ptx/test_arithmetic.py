"""Instructions against their definitions, in Python's whole numbers and NumPy's float64."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from tests.ptx.registers import DTYPES, Array
from tests.ptx.writing import compute

RNG = np.random.default_rng(7)
COUNT = 64
KINDS = ("s16", "u16", "s32", "u32", "s64", "u64")


def numbers(kind: str, shift: int = 0) -> Array:
    """Limits, small numbers and others."""
    dtype = DTYPES[kind]
    limits = np.iinfo(dtype)
    some = [limits.min, limits.max, limits.min + 1, limits.max - 1, 0, 1, 2, 3, 7, limits.max // 2]
    if kind[0] == "s":
        some += [-1, -2, -3, -7]
    more = RNG.integers(limits.min, limits.max, COUNT - len(some), dtype, endpoint=True)
    return np.roll(np.concatenate([np.array(some, dtype), more]), shift)


def wrapped(value: int, kind: str) -> int:
    bits = int(kind[1:])
    value &= (1 << bits) - 1
    return value - (1 << bits) if kind[0] == "s" and value >> (bits - 1) else value


def check(opcode: str, kinds: list[str], result: str, define: Callable[..., int], *operands: Array) -> None:
    found = compute(opcode, kinds, result, *operands)
    expected = [define(*(int(v) for v in values)) for values in zip(*operands, strict=True)]
    expected = [bool(v) if result == "pred" else wrapped(int(v), result) for v in expected]
    assert [int(v) for v in found] == [int(v) for v in expected], opcode


def quotient(a: int, b: int) -> int:
    return -1 if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


@pytest.mark.parametrize("kind", KINDS)
def test_integers(kind: str) -> None:
    bits, signed = int(kind[1:]), kind[0] == "s"
    a, b, c = numbers(kind), numbers(kind, 5), numbers(kind, 11)
    by = RNG.integers(0, 2 * bits, COUNT).astype(np.uint32)
    check(f"add.{kind}", [kind] * 2, kind, lambda x, y: x + y, a, b)
    check(f"sub.{kind}", [kind] * 2, kind, lambda x, y: x - y, a, b)
    check(f"mul.lo.{kind}", [kind] * 2, kind, lambda x, y: x * y, a, b)
    check(f"mul.hi.{kind}", [kind] * 2, kind, lambda x, y: x * y >> bits, a, b)
    check(f"mad.lo.{kind}", [kind] * 3, kind, lambda x, y, z: x * y + z, a, b, c)
    check(f"div.{kind}", [kind] * 2, kind, quotient, a, b)
    check(f"rem.{kind}", [kind] * 2, kind, lambda x, y: x - quotient(x, y) * y, a, b)
    check(f"min.{kind}", [kind] * 2, kind, min, a, b)
    check(f"max.{kind}", [kind] * 2, kind, max, a, b)
    check(f"shr.{kind}", [kind, "u32"], kind, lambda x, n: x >> n, a, by)
    check(f"shl.b{bits}", [f"b{bits}", "u32"], kind, lambda x, n: x << n, a.view(f"u{bits // 8}"), by)
    for name, define in (("and", int.__and__), ("or", int.__or__), ("xor", int.__xor__)):
        check(f"{name}.b{bits}", [kind] * 2, kind, define, a, b)
    check(f"not.b{bits}", [kind], kind, lambda x: ~x, a)
    if signed:
        check(f"neg.{kind}", [kind], kind, lambda x: -x, a)
        check(f"abs.{kind}", [kind], kind, abs, a)
    if bits < 64:
        wide = f"{kind[0]}{2 * bits}"
        check(f"mul.wide.{kind}", [kind] * 2, wide, lambda x, y: x * y, a, b)
        check(f"mad.wide.{kind}", [kind, kind, wide], wide, lambda x, y, z: x * y + z, a, b, numbers(wide))
    compares = {
        "eq": int.__eq__,
        "ne": int.__ne__,
        "lt": int.__lt__,
        "le": int.__le__,
        "gt": int.__gt__,
        "ge": int.__ge__,
    }
    if not signed:
        compares |= {"lo": int.__lt__, "ls": int.__le__, "hi": int.__gt__, "hs": int.__ge__}
    for name, define in compares.items():
        check(f"setp.{name}.{kind}", [kind] * 2, "pred", define, a, np.where(np.arange(COUNT) % 3 == 0, a, b))
    p = RNG.integers(0, 2, COUNT)
    for name, define in (("and", int.__and__), ("or", int.__or__), ("xor", int.__xor__)):
        check(
            f"setp.lt.{name}.{kind}", [kind, kind, "pred"], "pred", lambda x, y, q, d=define: d(int(x < y), q), a, b, p
        )
    check(f"selp.b{bits}", [kind, kind, "pred"], kind, lambda x, y, q: x if q else y, a, b, p)
    for to in KINDS:
        check(f"cvt.{to}.{kind}", [kind], to, lambda x: x, a)


def test_bits() -> None:
    for bits in (32, 64):
        kind, all_ones = f"u{bits}", (1 << bits) - 1
        a, b = numbers(kind), numbers(kind, 3)
        at, width = (RNG.integers(0, bits + 9, COUNT).astype(np.uint32) for _ in "12")
        check(f"popc.b{bits}", [kind], "u32", lambda x: bin(x).count("1"), a)
        check(f"clz.b{bits}", [kind], "u32", lambda x, n=bits: n - len(bin(x)[2:].lstrip("0")), a)
        check(f"bfe.u{bits}", [kind, "u32", "u32"], kind, lambda x, i, n: x >> i & (1 << n) - 1, a, at, width)
        check(
            f"bfi.b{bits}",
            [kind, kind, "u32", "u32"],
            kind,
            lambda x, y, i, n, m=all_ones: y & ~((1 << n) - 1 << i & m) | (x & (1 << n) - 1) << i & m,
            a, b, at, width,
        )  # fmt: skip
    a, b, c = numbers("u32"), numbers("u32", 3), numbers("u32", 9)
    check("shf.l.wrap.b32", ["u32"] * 3, "u32", lambda x, y, n: ((y << 32 | x) << (n & 31)) >> 32, a, b, c)
    check("shf.r.wrap.b32", ["u32"] * 3, "u32", lambda x, y, n: (y << 32 | x) >> (n & 31), a, b, c)

    def permuted(x: int, y: int, choice: int) -> int:
        table = x.to_bytes(4, "little") + y.to_bytes(4, "little")
        picks = [(table[choice >> 4 * i & 7], choice >> 4 * i & 8) for i in range(4)]
        return int.from_bytes(bytes((255 if v & 128 else 0) if sign else v for v, sign in picks), "little")

    check("prmt.b32", ["u32"] * 3, "u32", permuted, a, b, c)


def floats(kind: str, shift: int = 0) -> Array:
    some = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 1.5, 2.5, -2.5, 1e-40, 3e38, 2**24 + 1, 0.1, 1 / 3, -7.9]
    return np.roll(np.concatenate([some, RNG.standard_normal(COUNT - len(some)) * 9]), shift).astype(DTYPES[kind])


def same(found: Array, expected: Array, what: str) -> None:
    assert np.array_equal(found, expected.astype(found.dtype), equal_nan=True), what
    there = ~np.isnan(found)
    assert np.array_equal(np.signbit(found[there]), np.signbit(expected[there])), what


@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_floats(kind: str) -> None:
    a, b = floats(kind), floats(kind, 9)
    exact = (
        (lambda x: x.astype(np.float64)) if kind == "f32" else (lambda x: x)
    )  # rounded once behind it: 53 > 2 * 24 + 1
    with np.errstate(all="ignore"):
        for name, function in (
            ("add.rn", np.add),
            ("sub.rn", np.subtract),
            ("mul.rn", np.multiply),
            ("div.rn", np.divide),
        ):
            same(compute(f"{name}.{kind}", [kind] * 2, kind, a, b), function(exact(a), exact(b)), name)
        same(compute(f"sqrt.rn.{kind}", [kind], kind, a), np.sqrt(exact(a)), "sqrt")
        same(compute(f"rcp.rn.{kind}", [kind], kind, a), 1 / exact(a), "rcp")
        same(compute(f"neg.{kind}", [kind], kind, a), -a, "neg")
        same(compute(f"abs.{kind}", [kind], kind, a), abs(a), "abs")
        same(compute(f"copysign.{kind}", [kind] * 2, kind, a, b), np.copysign(b, a), "copysign")
    for name, choose in (("min", min), ("max", max)):
        pairs = list(zip(a.tolist(), b.tolist(), strict=True))
        expected = [
            y if x != x else x if y != y else choose((x, y), key=lambda v: (v, np.copysign(1, v))) for x, y in pairs
        ]
        same(compute(f"{name}.{kind}", [kind] * 2, kind, a, b), np.array(expected), name)
        if kind == "f32":
            expected = [np.nan if x != x or y != y else v for (x, y), v in zip(pairs, expected, strict=True)]
            same(compute(f"{name}.NaN.f32", [kind] * 2, kind, a, b), np.array(expected), name)
    compares = {"eq": "__eq__", "ne": "__ne__", "lt": "__lt__", "le": "__le__", "gt": "__gt__", "ge": "__ge__"}
    nan = np.isnan(a) | np.isnan(b)
    for name, method in compares.items():
        truth = np.array([getattr(float, method)(float(x), float(y)) for x, y in zip(a, b, strict=True)])
        assert np.array_equal(compute(f"setp.{name}.{kind}", [kind] * 2, "pred", a, b), truth & ~nan), name
        assert np.array_equal(compute(f"setp.{name}u.{kind}", [kind] * 2, "pred", a, b), truth | nan), name
    assert np.array_equal(compute(f"setp.nan.{kind}", [kind] * 2, "pred", a, b), nan)
    assert np.array_equal(compute(f"setp.num.{kind}", [kind] * 2, "pred", a, b), ~nan)


def test_a_product_with_a_sum_rounds_once() -> None:
    a, b, c = floats("f32"), floats("f32", 5), floats("f32", 11)
    # 1 + 2^-12 squared is 1 + 2^-11 + 2^-24: half of a last place, which a number far below decides
    for i, tail in enumerate((2.0**-80, -(2.0**-80), 0.0)):
        a[40 + i], b[40 + i], c[40 + i] = 1 + 2.0**-12, 1 + 2.0**-12, tail
        a[50 + i], b[50 + i], c[50 + i] = 2.0**-75, 2.0**-75 + 2.0**-90, np.float32(2.0**-149) * (1 - i)
    found = compute("fma.rn.f32", ["f32"] * 3, "f32", a, b, c)
    for x, y, z, v in zip(a, b, c, found, strict=True):
        if not all(np.isfinite([x, y, z])):
            with np.errstate(all="ignore"):
                assert np.array_equal(v, np.float32(np.float64(x) * y + z), equal_nan=True)
            continue
        exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
        if abs(exact) >= Fraction(2) ** 128:
            assert np.isinf(v)
            continue
        near = [np.nextafter(v, np.float32(s)) for s in (-np.inf, np.inf)]
        off = abs(Fraction(float(v)) - exact)
        for other in near:
            if np.isfinite(other):
                further = abs(Fraction(float(other)) - exact)
                assert off < further or (off == further and int(np.float32(v).view(np.uint32)) % 2 == 0), (x, y, z, v)


def test_conversions_of_floats() -> None:
    for kind in ("f32", "f64"):
        a = np.concatenate([floats(kind), [1e30, -1e30, 2.0**31, -(2.0**31), 0.5, 1.5, -0.5, 65535.4] * 4]).astype(
            DTYPES[kind]
        )
        for name, function in (("rni", np.rint), ("rzi", np.trunc), ("rmi", np.floor), ("rpi", np.ceil)):
            same(compute(f"cvt.{name}.{kind}.{kind}", [kind], kind, a), function(a), name)
            for to in KINDS:
                low, high = np.iinfo(DTYPES[to]).min, np.iinfo(DTYPES[to]).max
                whole = [0 if v != v else v if np.isinf(v) else int(v) for v in function(a.astype(np.float64)).tolist()]
                expected = [int(max(low, min(high, v))) for v in whole]
                assert compute(f"cvt.{name}.{to}.{kind}", [kind], to, a).tolist() == expected, (name, to, kind)
        for source in KINDS:
            values = numbers(source)
            same(compute(f"cvt.rn.{kind}.{source}", [source], kind, values), values.astype(DTYPES[kind]), source)
    a = floats("f64")
    with np.errstate(all="ignore"):
        same(compute("cvt.rn.f32.f64", ["f64"], "f32", a), a.astype(np.float32), "f32.f64")
    a = floats("f32")
    same(compute("cvt.f64.f32", ["f32"], "f64", a), a.astype(np.float64), "f64.f32")
    bits = compute("cvt.rna.tf32.f32", ["f32"], "b32", np.full(32, 1 + 2.0**-11, np.float32))
    assert (bits.view(np.float32) == 1 + 2.0**-10).all()
