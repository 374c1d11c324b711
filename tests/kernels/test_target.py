"""Targets, the compiler, and the vector mathematics."""

from __future__ import annotations

import ctypes
import math
import subprocess
import sys

import numpy as np
import pytest
from numba import types

from cnnc.kernels.cpu import FAMILIES, Kernel, target
from cnnc.kernels.cpu.code import compile, link
from cnnc.kernels.cpu.code.expression import keeps_zero
from cnnc.kernels.cpu.code.vector import FLOATS, expression, piece, vectors
from tests.kernels.launching import TARGETS


def unary(name, tree):
    """A function of float32 arrays from an expression of x."""
    goal = target.named(name)
    V = vectors(goal)
    lanes = goal.lanes
    f = expression(goal, tree, ("x",))

    def kernel(arguments, chunk, scratch):
        x, y, count = V.floats(arguments[0]), V.floats(arguments[1]), arguments[2]
        for i in range(0, count, lanes):
            V.store_first(f(V.load_first(x, i, count - i)), y, i, count - i)

    code = bytes(compile.machine_of(goal).emit_object(compile.optimized(kernel, goal)))
    run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)(compile.load(code))

    def apply(x):
        x = np.ascontiguousarray(x, np.float32)
        y = np.full(x.size + 1, 7, np.float32)
        arguments = np.array([x.ctypes.data, y.ctypes.data, x.size], np.int64)
        run(arguments.ctypes.data, 0, None)
        assert y[-1] == 7
        return y[:-1]

    return apply


TOGETHER = {"normal_cdf", "normal_pdf"}


def samples():
    sweep = np.linspace(-110, 95, 200_001)
    powers = np.geomspace(2.0**-126, 3e38, 100_003)
    near_one = np.linspace(0.5, 2, 100_001)
    return np.concatenate([sweep, powers, -powers, near_one]).astype(np.float32)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize(
    ("operation", "definition", "ulps"),
    [
        ("exp", np.exp, 2),
        ("log", np.log, 2),
        ("tanh", np.tanh, 3),
        ("normal_cdf", lambda x: np.vectorize(lambda x: math.erfc(-x / math.sqrt(2)) / 2)(x), 5),
        ("normal_pdf", lambda x: np.exp(-0.5 * np.minimum(x * x, 1e4)) / np.sqrt(2 * np.pi), 4),
    ],
)
def test_error_in_units_of_the_last_place(name, operation, definition, ulps):
    x = samples()
    with np.errstate(all="ignore"):
        want = definition(x.astype(np.float64))
        rounded = want.astype(np.float32)
    trees = [(operation, ("var", "x"))]
    if operation in TOGETHER:  # which share their work where one expression has both
        trees += [("add", *trees, ("mul", ("const", 0.0), (other, ("var", "x")))) for other in TOGETHER - {operation}]
    finite = np.isfinite(rounded)
    spacing = np.maximum(np.spacing(abs(rounded[finite])), np.float32(2.0**-149))
    for tree in trees:
        got = unary(name, tree)(x)
        np.testing.assert_array_equal(got[~finite], rounded[~finite])
        assert (abs(got[finite].astype(np.float64) - want[finite]) <= ulps * spacing.astype(np.float64)).all()


@pytest.mark.parametrize("name", TARGETS)
def test_powers(name):
    """Of all sizes within 2 units of the last place, and C's values at 0, infinities and NaN."""
    x = np.concatenate([samples()[::17], [np.inf, -np.inf, np.nan, 0, -0.0, 1, -1]]).astype(np.float32)
    for power in (-2.5, 0.3, 7.0, 0.0, np.inf):
        got = unary(name, ("pow", ("var", "x"), ("const", power)))(x)
        with np.errstate(all="ignore"):
            want = np.power(x.astype(np.float64), float(np.float32(power)))
            rounded = want.astype(np.float32)
        finite = np.isfinite(rounded) & (np.abs(want) >= 2.0**-126)
        np.testing.assert_array_equal(got[~np.isfinite(rounded)], rounded[~np.isfinite(rounded)])
        spacing = np.spacing(abs(rounded[finite])).astype(np.float64)
        assert (abs(got[finite].astype(np.float64) - want[finite]) <= 2 * spacing).all()
    special = np.array([np.inf, -np.inf, np.nan, 0, 1, -1, 2, -2, 0.5], np.float32)
    for base in special:
        with np.errstate(all="ignore"):
            want = np.power(np.float64(base), special.astype(np.float64)).astype(np.float32)
        if base in (0, -2, 1) or base != base:
            np.testing.assert_array_equal(unary(name, ("pow", ("const", float(base)), ("var", "x")))(special), want)


@pytest.mark.parametrize("name", TARGETS)
def test_special_values(name):
    inf, nan = np.inf, np.nan
    x = [inf, -inf, nan, 0.0, 1e30, -1e30]
    np.testing.assert_array_equal(unary(name, ("exp", ("var", "x")))(x), [inf, 0, nan, 1, inf, 0])
    np.testing.assert_array_equal(unary(name, ("tanh", ("var", "x")))(x), [1, -1, nan, 0, 1, -1])
    got = unary(name, ("log", ("var", "x")))([inf, -inf, nan, 0.0, -0.0, -1.0, 1.0, 1e-40])
    np.testing.assert_array_equal(got, [inf, nan, nan, -inf, -inf, nan, 0, -inf])
    x = [inf, -inf, nan, 2.5, -2.5, -0.0, 1e9, -1e9]
    np.testing.assert_array_equal(unary(name, ("floor", ("var", "x")))(x), [inf, -inf, nan, 2, -3, 0, 1e9, -1e9])
    np.testing.assert_array_equal(unary(name, ("sign", ("var", "x")))(x), [1, -1, nan, 1, -1, 0, 1, -1])
    tree = ("add", ("erf", ("var", "x")), ("mul", ("const", 4.0), ("normal_cdf", ("var", "x"))))
    np.testing.assert_array_equal(unary(name, tree)(x)[[0, 1, 2, 5, 6, 7]], [5, -1, nan, 2, 5, -1])
    tree = ("where", ("ge", ("var", "x"), ("const", 0.5)), ("log1p", ("var", "x")), ("softplus", ("var", "x")))
    np.testing.assert_array_equal(unary(name, tree)(x)[:3], [inf, 0, nan])
    tree = ("add", ("eq", ("var", "x"), ("var", "x")), ("mul", ("const", 2.0), ("ne", ("var", "x"), ("var", "x"))))
    np.testing.assert_array_equal(unary(name, tree)(x), [1, 1, 2, 1, 1, 1, 1, 1])
    np.testing.assert_array_equal(unary(name, ("sqrt", ("var", "x")))([4, -1, inf, nan, 0]), [2, nan, inf, nan, 0])


@pytest.mark.parametrize("name", TARGETS)
def test_maximum_and_minimum_hand_nan_on(name):
    for operation, want in (("max", [np.nan, 1, 3]), ("min", [np.nan, -2, 1])):
        for operands in ((("var", "x"), ("const", 1.0)), (("const", 1.0), ("var", "x"))):
            np.testing.assert_array_equal(unary(name, (operation, *operands))([np.nan, -2, 3]), want)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 15, 16, 17, 33])
def test_partial_vectors_leave_the_rest_alone(name, count):
    x = np.arange(count, dtype=np.float32)
    np.testing.assert_array_equal(unary(name, ("mul", ("var", "x"), ("const", 2.0)))(x), 2 * x)


@pytest.mark.parametrize("name", TARGETS)
def test_operators_of_vectors_and_numbers(name):
    goal = target.named(name)
    V = vectors(goal)

    def kernel(arguments, chunk, scratch):
        x, y = V.floats(arguments[0]), V.floats(arguments[1])
        v = V.load(x, 0)
        v = 1.0 - v / 4 + v * v
        v += 0.5
        keep = (v > 2.0) & ~(v >= 100.0) | (v == 1.5)
        V.store(V.select(keep, -v, V.zero()), y, 0)
        y[V.lanes] = V.total(V.splat(0.25))
        y[V.lanes + 1] = V.largest(v)
        y[V.lanes + 2] = V.real(arguments[2])

    code = bytes(compile.machine_of(goal).emit_object(compile.optimized(kernel, goal)))
    run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)(compile.load(code))
    x, y = np.arange(goal.lanes, dtype=np.float32), np.zeros(goal.lanes + 3, np.float32)
    arguments = np.array([x.ctypes.data, y.ctypes.data, np.float64(0.125).view(np.int64)], np.int64)
    run(arguments.ctypes.data, 0, None)
    v = 1.5 - x / 4 + x * x
    np.testing.assert_array_equal(y[: goal.lanes], np.where((v > 2) & ~(v >= 100) | (v == 1.5), -v, 0))
    np.testing.assert_array_equal(y[goal.lanes :], [goal.lanes / 4, v.max(), 0.125])


def test_keeps_zero():
    x = ("var", "x")
    assert keeps_zero(("tanh", ("mul", x, ("const", 3.0))))
    assert not keeps_zero(("exp", x))
    assert not keeps_zero(("log", x))
    assert not keeps_zero(("div", ("const", 1.0), x))


SOME = Kernel("conv_pack_weights", (("plain", False),))


@pytest.mark.parametrize("name", target.TARGETS)
def test_every_target_is_compiled_for_on_every_machine(name):
    code = compile.build(SOME, target.named(name))
    assert len(code) > 100
    assert "kernel" in compile.assembly(SOME, target.named(name))


def test_the_same_kernel_gives_the_same_code():
    assert compile.build(SOME, target.host()) == compile.build(SOME, target.host())


def test_code_loads_without_numba(tmp_path):
    path = tmp_path / "kernel.o"
    path.write_bytes(compile.build(SOME, target.host()))
    program = (
        "import sys, pathlib, cnnc\n"
        "from cnnc.kernels.cpu import target\n"
        "from cnnc.kernels.cpu.code import compile\n"
        "from cnnc.kernels.cpu.conv import plan\n"
        f"assert compile.load(pathlib.Path({str(path)!r}).read_bytes())\n"
        "assert 'numba' not in sys.modules\n"
        f"assert ('llvmlite' in sys.modules) == {not link.usable()}"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.skipif(not link.usable(), reason="LLVM loads the code here")
def test_what_cannot_be_linked_is_left_to_llvm(monkeypatch):
    code = compile.build(SOME, target.host())
    assert link.load(code, compile.SYMBOL) != link.load(code, compile.SYMBOL)
    other = next(t for t in target.TARGETS.values() if t.architecture != target.host().architecture)
    for damaged in (b"", code[:40], code[:70], b"\0" * 100, code[:300], compile.build(SOME, other)):
        with pytest.raises(link.UnlinkableError):
            link.load(damaged, compile.SYMBOL)
    with pytest.raises(link.UnlinkableError, match="no symbol"):
        link.load(code, "other")
    monkeypatch.setattr(link, "usable", lambda: False)
    assert compile.load(code)


def test_the_processor_is_what_llvm_sees():
    import llvmlite.binding as llvm

    architecture, features = target.processor()
    seen = llvm.get_host_cpu_features()
    assert llvm.get_process_triple().split("-")[0].replace("arm64", "aarch64") == architecture
    for this in target.TARGETS.values():
        if this.architecture == architecture and architecture == "x86_64":
            assert {f: f in features for f in target._NEEDS[this.name]} == {
                f: seen[f] for f in target._NEEDS[this.name]
            }


def test_kernels_print_as_family_and_parameters():
    assert str(Kernel("conv_direct", (("pixels", 14), ("vectors", 2)))) == "conv_direct{pixels=14,vectors=2}"
    assert FAMILIES["conv_direct"].arguments[:4] == ("x", "w", "bias", "y")


def test_targets():
    assert target.host() in target.runnable()
    with pytest.raises(KeyError):
        target.named("mmx")


def test_a_piece_is_a_part_of_kernels_and_of_other_pieces():
    goal, integer = target.host(), types.int64
    V = vectors(goal)
    divided = piece((integer, integer), lambda n, by: (n // by, n % by), types.UniTuple(integer, 2))

    def write(to, n):
        whole, rest = divided(n, 3)
        to[n] = 10 * whole + rest

    fill = piece((FLOATS, integer), write)

    def kernel(arguments, chunk, scratch):
        y = V.floats(arguments[0])
        for n in range(arguments[1]):
            fill(y, n)
        y[0] = divided(arguments[1], 4)[1] + V.lanes

    code = bytes(compile.machine_of(goal).emit_object(compile.optimized(kernel, goal)))
    y = np.zeros(9, np.float32)
    arguments = np.array([y.ctypes.data, 7], np.int64)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)(compile.load(code))(
        arguments.ctypes.data, 0, None
    )
    assert y.tolist() == [3 + goal.lanes, 1, 2, 10, 11, 12, 20, 0, 0]
