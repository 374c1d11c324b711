"""Many kernels at once: the same code from every process, and from this one where others fail."""

from __future__ import annotations

import pytest

from cnnc.kernels.cpu import Kernel, builder, compile, target

KERNELS = [
    Kernel("map", (("kinds", ("vector",)), ("expressions", (("add", ("var", "a0"), ("const", float(n))),)), ("masked", False)))
    for n in range(2 * builder.SHARE)
]  # fmt: skip
GOAL = target.host()


def built(processes):
    found = {}
    builder.build_all(KERNELS, GOAL, processes, found.__setitem__)
    assert set(found) == set(KERNELS)
    return found


def test_every_process_gives_the_same_code(monkeypatch):
    here = []
    monkeypatch.setattr(compile, "build", lambda k, t, build=compile.build: here.append(k) or build(k, t))
    found = built(2)
    assert 0 < len(here) < len(KERNELS), "another process took some"
    assert all(found[k] == compile.build(k, GOAL) for k in KERNELS)


@pytest.mark.parametrize("program", ["raise SystemExit(1)", "print('x')", "import os; os.close(0); os.close(1)"])
def test_what_fails_elsewhere_is_compiled_here(monkeypatch, program):
    monkeypatch.setattr(builder, "PROGRAM", program)
    monkeypatch.setattr(compile, "build", lambda kernel, goal: str(kernel).encode())
    assert built(2) == {k: str(k).encode() for k in KERNELS}


def test_without_an_interpreter_it_works_all_the_same(monkeypatch):
    monkeypatch.setattr("sys.executable", "")
    monkeypatch.setattr(compile, "build", lambda kernel, goal: b"code")
    assert built(4) == dict.fromkeys(KERNELS, b"code")


def test_a_kernel_that_does_not_compile_says_so():
    broken = [Kernel("map", (("no_such_parameter", n),)) for n in range(2 * builder.SHARE)]
    with pytest.raises(TypeError, match="no_such_parameter"):
        builder.build_all(broken, GOAL, 2, lambda kernel, code: None)


def test_kernels_of_a_family_stay_together():
    kernels = [Kernel("a", (("n", n),)) for n in range(builder.GROUP + 1)] + [Kernel("b")]
    assert [len(g) for g in builder.groups(kernels)] == [builder.GROUP, 1, 1]
