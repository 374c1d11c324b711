"""Calling a compiled network: any thread count, any threads, any array; nothing is shared that should not be."""

from __future__ import annotations

import array
import threading
import warnings

import numpy as np
import pytest

import cnnc
from cnnc import driver
from cnnc.diagnostics import CnncError
from cnnc.passes.optimizer import SGD
from cnnc.runtime import setup
from tests.networks import MIXED


@pytest.fixture(scope="module")
def net():
    network = cnnc.parse(MIXED)
    rng = np.random.default_rng(0)
    for name in network.weights:
        if name.endswith("running_var"):
            network.weights[name] = rng.uniform(0.5, 2, network.weights[name].shape)
    return network


@pytest.fixture(scope="module")
def exe(net):
    return cnnc.compile(net)


def images(batch, seed=0):
    return np.random.default_rng(seed).standard_normal((batch, 3, 19, 17)).astype(np.float32)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_agrees_with_the_reference(net, exe, batch):
    expected = cnnc.compile(net, target="reference")(images(batch))
    np.testing.assert_allclose(exe(images(batch)), expected, rtol=0, atol=2e-6 * np.abs(expected).max())


def test_bits_do_not_depend_on_threads(net):
    results = [cnnc.compile(net, threads=t)(images(3)).tobytes() for t in (1, 2, 3, 4, 8)]
    assert len(set(results)) == 1


def test_training_bits_do_not_depend_on_threads(net):
    def train(threads):
        exe = driver.compile_training(net, optimizer=SGD(momentum=0.9), threads=threads)
        for step in range(3):
            exe(image=images(4, step), labels=np.arange(4), seed=np.array([7, step]), learning_rate=np.float32(0.05))
        return b"".join(v.tobytes() for v in exe.values.values())

    assert len({train(t) for t in (1, 2, 4)}) == 1


def test_a_batch_is_its_images(exe):
    x = images(4)
    whole = exe(x)
    for i in range(4):
        np.testing.assert_allclose(exe(x[i : i + 1])[0], whole[i], rtol=0, atol=1e-6 * np.abs(whole).max())


def test_empty_batch(exe):
    assert exe(images(0)).shape == (0, 5)


def test_several_threads_call_one_executable(exe):
    expected = [exe(images(2, s)) for s in range(8)]
    got: dict[int, bool] = {}

    def call(s):
        got[s] = all(np.array_equal(exe(images(2, s)), expected[s]) for _ in range(20))

    threads = [threading.Thread(target=call, args=(s,)) for s in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert got == {s: True for s in range(8)}


def test_results_do_not_depend_on_what_memory_held(net):
    exe = cnnc.compile(net)
    expected = exe(images(2))
    program = exe.runner.program(2)
    (frame,) = program._frames
    frame.arena.array[:] = 0xFF  # every float32 of it is NaN
    for scratch in frame.runner._scratch:
        scratch[:] = 0xFF
    assert np.array_equal(exe(images(2)), expected)


def test_calls_hold_packed_weights_alone(net):
    """What lies between values and packed weights goes when it has been used."""
    exe = cnnc.compile(net)
    expected = exe(images(2))
    compiled, plan = exe.runner, exe.runner.plan(2)
    lasting = plan.lasting()
    packed = {b.name for b in plan.buffers if b.place == "packed"}
    assert packed - lasting, "no folded weights"
    assert set(compiled.program(2).fixed) <= lasting
    assert len(compiled.packed) == len({setup.contents(plan)[b] for b in packed & lasting})
    assert exe.memory(2).packed == sum(b.bytes for b in plan.buffers if b.name in packed & lasting)
    assert np.array_equal(exe(images(2)), expected)


def test_results_are_memory_of_their_own(exe):
    first = exe(images(1))
    kept = first.copy()
    exe(images(1, 1))
    assert np.array_equal(first, kept)
    first[:] = 0
    assert not np.array_equal(exe(images(1)), first)


def test_denormals_are_the_callers_again(exe):
    exe(images(2))
    tiny = np.float32(1e-40)
    assert tiny * np.float32(1) != 0


def test_weights_are_a_snapshot(net):
    exe = cnnc.compile(net)
    before = exe(images(1))
    bias, old = "out.bias", net.weights["out.bias"]
    try:
        net.weights[bias] = np.full(5, 100.0)
        assert np.array_equal(exe(images(1)), before)
        exe.refresh(net.weights)
        assert exe(images(1)).min() > 50
        net.weights[bias] = np.full(5, -100.0)
        assert exe(images(7)).min() > 50  # another size packs the same values
    finally:
        net.weights[bias] = old
    with pytest.raises(ValueError, match="read-only"):
        net.weights[bias][0] = 1


# ------------------------------------------------------------------------------------------------ inputs


def test_anything_like_an_array(exe):
    x = images(2)
    expected = exe(x)
    read_only = x.copy()
    read_only.flags.writeable = False

    class Interface:
        __array_interface__ = x.__array_interface__

    class Dlpack:
        def __dlpack__(self, **options):
            return x.__dlpack__(**options)

        def __dlpack_device__(self):
            return x.__dlpack_device__()

    flat = array.array("f", x.ravel())
    for same in (
        x.astype(np.float64),
        np.asfortranarray(x),
        x[:, :, ::-1][:, :, ::-1],
        x.astype(">f4"),
        read_only,
        Interface(),
        Dlpack(),
        memoryview(flat).cast("B").cast("f", x.shape),
        x.tolist(),
    ):
        assert np.array_equal(exe(same), expected)
    assert np.array_equal(exe(np.ones(x.shape, np.int64)), exe(np.ones(x.shape, np.float32)))
    unaligned = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(x.shape)
    assert np.array_equal(exe(unaligned), expected)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (np.zeros((2, 3, 19, 17), np.complex64), "E0701"),
        (np.zeros((2, 3, 19, 17), object), "E0701"),
        ("image", "E0701"),
        (None, "E0701"),
        (np.zeros((3, 19, 17), np.float32), "E0702"),
        (np.zeros((1, 19, 17, 3), np.float32), "E0702"),
        (np.zeros((1, 4, 19, 17), np.float32), "E0702"),
        (np.zeros(0), "E0702"),
        ([[1, 2], [3]], "E0701"),
    ],
)
def test_what_does_not_fit_is_refused(exe, value, code):
    with pytest.raises(CnncError) as e:
        exe(value)
    assert e.value.diagnostics[0].code == code


def test_calls_with_wrong_arguments(exe):
    for call in (
        lambda: exe(),
        lambda: exe(images(1), images(1)),
        lambda: exe(img=images(1)),
        lambda: exe(images(1), image=images(1)),
    ):
        with pytest.raises(CnncError) as e:
            call()
        assert e.value.diagnostics[0].code == "E0703"


def test_two_inputs_and_two_outputs():
    net = cnnc.parse("""model twins() { input left: f32[N, 3, 8, 8]  input right: f32[N, 3, 8, 8]  tower = conv(4, 3)
        p = left -> tower  q = right -> tower  return {difference: p - q, sum: p + q} }""")
    exe = cnnc.compile(net)
    a, b = (np.random.default_rng(s).standard_normal((2, 3, 8, 8)).astype(np.float32) for s in (0, 1))
    one, two = exe(a, b), exe(right=b, left=a)
    assert set(one) == {"difference", "sum"}
    assert all(np.array_equal(one[k], two[k]) for k in one)
    expected = cnnc.compile(net, target="reference")(a, b)
    assert all(np.allclose(one[k], expected[k], atol=1e-5) for k in one)
    with pytest.raises(CnncError):
        exe(a, b[:1])


@pytest.mark.parametrize("value", [0, -1, 2.5, "2", True, 2**31])
def test_counts_are_whole_numbers_from_one_on(net, exe, value):
    for call in (
        lambda: cnnc.compile(net, threads=value),
        lambda: cnnc.compile(net, batch=value),
        lambda: exe.plan(value),
        lambda: exe.memory(value),
        lambda: net.summary(value),
    ):
        with pytest.raises(CnncError, match="E0704"):
            call()


@pytest.mark.parametrize(
    ("arguments", "named", "code"),
    [
        ([images(2), [0, 5]], {}, "E0629"),
        ([images(2), [0, -1]], {}, "E0629"),
        ([images(2), [0, 1], 3], {}, "E0703"),
        ([images(2)], {}, "E0703"),
        ([images(2), [0, 1]], {"image": images(2)}, "E0703"),
    ],
)
def test_what_value_and_grad_refuses(net, arguments, named, code):
    with pytest.raises(CnncError) as e:
        cnnc.value_and_grad(net, target="reference")(*arguments, **named)
    assert e.value.diagnostics[0].code == code


def test_an_input_called_labels_makes_no_training_graph():
    net = cnnc.parse("model m() { input labels: f32[N, 3, 8, 8]  return labels -> conv(4, 3) -> batchnorm }")
    assert " = batchnorm(" not in cnnc.compile(net).ir()


def test_bytes_given_as_an_image_are_told():
    net = cnnc.parse("model m() {\n    input x: f32[N, 1, 2, 2]\n    return x -> relu\n}")
    exe = cnnc.compile(net)
    x = np.full((1, 1, 2, 2), 200, np.uint8)
    with pytest.warns(UserWarning, match="divide pixels by 255"):
        assert exe(x)[0, 0, 0, 0] == 200
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exe(x.astype(np.float32))
        exe(x.astype(np.int64))
