"""Large results are written where the caller reads them, in memory that is used again once nobody has it."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest

import cnnc
from cnnc.lowering.place import COPIED
from cnnc.lowering.plan import parse_plan
from cnnc.runtime import profile
from cnnc.runtime.results import Results

TWO = """model Two {
    input x: f32[N, 8, 32, 32]
    y = conv(8, 3, padding=1)(x)
    z = relu(y)
    small = global_avgpool(z)
    return y, z, small
}"""
SIZE = 8 * 32 * 32 * 4  # bytes of an image


def images(batch: int, seed: int = 0):
    return np.random.default_rng(seed).standard_normal((batch, 8, 32, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def net():
    return cnnc.parse(TWO)


@pytest.fixture(scope="module")
def exe(net):
    return cnnc.compile(net, threads=2)


def test_large_outputs_are_results(exe):
    few, many = (exe.runner.plan(batch) for batch in (1, 5))
    assert SIZE <= COPIED < 5 * SIZE
    assert not [b for b in few.buffers if b.place == "result"]
    assert sorted(b.bytes for b in many.buffers if b.place == "result") == [5 * SIZE] * 2
    assert parse_plan(str(many)) == many
    assert exe.runner.memory(5).arena >= many.arena + 2 * 5 * SIZE


@pytest.mark.parametrize("batch", [1, 5])
def test_results_stay_as_they_are(net, exe, batch):
    reference = cnnc.compile(net, target="reference")
    kept = [exe.run({"x": images(batch, seed)}) for seed in range(4)]
    for seed, got in enumerate(kept):
        want = reference.run({"x": images(batch, seed)})
        for label in want:
            np.testing.assert_allclose(got[label], want[label], rtol=1e-5, atol=1e-5)
        got["z"][:] = 7  # they are the caller's
    again = exe.run({"x": images(batch, 3)})
    np.testing.assert_array_equal(again["y"], kept[3]["y"])


def test_memory_is_used_again_when_no_view_is_left(exe):
    first = exe.run({"x": images(5)})["z"]
    at, part = first.ctypes.data, first[2, 3:, ::2]
    bits = part.tobytes()
    del first
    others = [exe.run({"x": images(5, seed)})["z"] for seed in (1, 2)]
    assert at not in [o.ctypes.data for o in others]
    assert part.tobytes() == bits
    del part, others
    places = {exe.run({"x": images(5, seed)})["z"].ctypes.data for seed in range(3)}
    assert len(places) == 1


def test_one_that_is_free_is_kept():
    results = Results(1 << 20)
    arrays = [results.take() for _ in range(3)]
    assert len({a.ctypes.data for a in arrays}) == 3
    assert all(a.ctypes.data % 64 == 0 and a.flags.writeable and a.nbytes == 1 << 20 for a in arrays)
    places = [a.ctypes.data for a in arrays]
    while arrays:
        arrays.pop(0)
    assert results.take().ctypes.data == places[0]
    held = results.take()
    del results  # what is held lives on
    held[:] = 3
    assert held.sum(dtype=np.int64) == 3 << 20


def test_the_same_value_under_two_names_is_two_arrays():
    exe = cnnc.compile(cnnc.parse("model M { input x: f32[N, 8, 32, 32]\n a = relu(x)\n b = a\n return a, b, x }"))
    x = images(5)
    got = exe.run({"x": x})
    for one, other in itertools.combinations(got, 2):
        assert not np.shares_memory(got[one], got[other])
    assert not np.shares_memory(got["x"], x)
    np.testing.assert_array_equal(got["a"], got["b"])
    np.testing.assert_array_equal(got["x"], x)


def test_calls_of_several_threads_have_results_of_their_own(exe):
    want = [exe.run({"x": images(5, seed)})["y"].copy() for seed in range(4)]
    wrong = []

    def work(seed: int) -> None:
        for _ in range(20):
            got = exe.run({"x": images(5, seed)})["y"]
            if not np.array_equal(got, want[seed]):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_steps_are_timed_with_results(exe):
    assert len(profile.steps(exe.runner, {"x": images(5)}, 1)) == len(exe.runner.plan(5).steps)
