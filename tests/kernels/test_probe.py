"""The kernels that measure the machine: what they compute, and that they hold nothing but registers."""

import re

import numpy as np
import pytest

from cnnc.kernels.cpu import Kernel, target
from cnnc.kernels.cpu.code import compile
from cnnc.kernels.cpu.probe import LOADS
from tests.kernels.launching import TARGETS, function


@pytest.mark.parametrize("name", TARGETS)
def test_peak(name):
    lanes, chains = target.named(name).lanes, 5
    x = np.zeros((2, (2 + chains) * lanes + 3), np.float32)
    x[:, :lanes], x[:, lanes : 2 * lanes], x[:, 2 * lanes : -3] = 2, 1, 3
    run = function(Kernel("peak", (("chains", chains),)), name)
    for chunk in range(2):
        run(np.array([3, x.shape[1], x.ctypes.data], np.int64).ctypes.data, chunk, None)
    expected = 3 + 3 * (2 * 1) if target.named(name).fma else ((3 * 2 + 1) * 2 + 1) * 2 + 1
    assert (x[:, 2 * lanes : -3] == expected).all()
    assert (x[:, -3:] == 0).all()


@pytest.mark.parametrize("name", TARGETS)
def test_stream(name):
    lanes, turns, passes = target.named(name).lanes, 3, 4
    x = np.arange(2 * turns * LOADS * lanes, dtype=np.float32)
    run = function(Kernel("stream"), name)
    scratch = np.zeros(64, np.float32)
    for chunk, part in enumerate(np.split(x, 2)):
        run(np.array([turns, passes, x.ctypes.data], np.int64).ctypes.data, chunk, scratch.ctypes.data)
        assert scratch[:lanes].sum() == passes * part.sum()


@pytest.mark.parametrize("name", target.TARGETS)
def test_peak_stays_in_registers(name):
    """The innermost loop multiplies and adds, and moves nothing."""
    this = target.named(name)
    chains = this.registers - 4
    text = compile.assembly(Kernel("peak", (("chains", chains),)), this)
    marks = r"\bfmla" if name == "neon" else r"\bvfmadd231ps" if this.fma else r"\bmulps"
    # blocks from a label to the first branch; LLVM may have unrolled the loop, and left a rest
    blocks = [re.split(r"\n\t(?:j|b\.|cb)", block)[0] for block in re.split(r"\n\.?\w+:.*", text)]
    loops = [block for block in blocks if len(re.findall(marks, block)) >= chains]
    assert loops
    if this.fma:  # without, the product needs a register of its own
        assert not any(re.search(r"[\[(](%r|%e)?sp|\bv?movap?s|\bmov\s+v", loop) for loop in loops)
