"""What was used last is kept, within a bound of bytes."""

from __future__ import annotations

import numpy as np
import pytest

import cnnc
from cnnc.runtime import compiled
from cnnc.runtime.recent import Recent

NET = "model m { input x: f32[N, 32, 9, 9] return x -> conv(32, 3, padding=1) -> relu -> flatten -> linear(5) }"


def images(batch):
    return np.random.default_rng(batch).standard_normal((batch, 32, 9, 9)).astype(np.float32)


def test_the_least_recently_used_goes():
    recent = Recent(100)
    for key in range(4):
        assert recent.put(key, str(key), 25) == []
    assert recent.get(0) == "0"
    recent.put(4, "4", 25)
    assert [key for key in range(5) if recent.get(key)] == [0, 2, 3, 4]
    recent.put(5, "5", 1000)  # two stay whatever their size
    assert [key for key in range(6) if recent.get(key)] == [4, 5]
    assert (len(recent), recent.bytes) == (2, 1025)
    recent.clear()
    assert (len(recent), recent.bytes, recent.get(5)) == (0, 0, None)


def test_parts_count_once_and_go_with_their_last_user():
    recent = Recent(100)
    assert recent.put("a", 1, 10, {"shared": 50, "own": 5}) == []
    assert recent.put("b", 2, 10, {"shared": 50}) == []
    assert recent.bytes == 75
    assert recent.put("c", 3, 30, {"shared": 50}) == ["own"]
    assert recent.bytes == 90
    assert recent.put("d", 4, 90) == []
    assert recent.put("e", 5, 10) == ["shared"]
    assert recent.bytes == 100


def test_many_sizes_in_turn_are_prepared_once(monkeypatch):
    made = []

    class Program(compiled.Program):
        def __init__(self, plan, *rest):
            made.append(plan.batch)
            super().__init__(plan, *rest)

    monkeypatch.setattr(compiled, "Program", Program)
    exe = cnnc.compile(
        cnnc.parse("model m { input x: f32[N, 32, 9, 9] return x -> relu -> global_avgpool -> flatten }")
    )
    sizes = range(1, 21)
    first = [exe(images(n)) for n in sizes]
    again = [exe(images(n)) for n in sizes]
    assert made == list(sizes)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("opened", [False, True], ids=["compiled", "artifact"])
def test_what_went_comes_again_and_gives_the_same(monkeypatch, tmp_path, opened):
    """Packed weights go with the Programs that read them, Plans stay; what an artifact gave stays."""
    expected = cnnc.compile(cnnc.parse(NET))
    exe = cnnc.compile(cnnc.parse(NET))
    if opened:
        cnnc.save(exe, tmp_path / "m.cnnx", batch=3)
        exe = cnnc.open(tmp_path / "m.cnnx")
    given = set(exe.runner.packed)
    exe.runner._programs.limit = 0
    planned = []
    monkeypatch.setattr(compiled, "lower", lambda *a, lower=compiled.lower: planned.append(a[1]) or lower(*a))
    for _ in range(2):
        for n in (1, 2, 3, 16, 33):
            assert np.array_equal(exe(images(n)), expected(images(n)))
    kept = [exe.runner._programs.get(n) for n in (16, 33)]
    assert len(exe.runner._programs) == 2
    assert all(kept)
    read = {id(a) for program in kept for a in program.fixed.values()}
    assert {id(a) for d, a in exe.runner.packed.items() if d not in given} <= read
    assert given <= set(exe.runner.packed)
    assert planned == sorted(planned)


def test_plans_are_bounded(monkeypatch):
    monkeypatch.setattr(compiled, "PLANS", 100_000)
    exe = cnnc.compile(cnnc.parse(NET))
    sizes = [exe.memory(n).total for n in range(1, 200)]
    assert len(exe.runner._plans) < 60
    assert [exe.memory(n).total for n in range(1, 200)] == sizes
