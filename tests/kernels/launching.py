"""Running a planned kernel on NumPy arrays: every chunk in turn, with poisoned scratch and results."""

from __future__ import annotations

import ctypes
from functools import cache
from itertools import product

import numpy as np
import pytest

from cnnc.backends.cpu import CpuBackend
from cnnc.kernels.cpu import FAMILIES, target
from cnnc.kernels.cpu.code.vector import NOTE
from cnnc.kernels.cpu.launches import Launch
from cnnc.lowering.plan import KernelName

TARGETS = [pytest_target.name for pytest_target in target.runnable()]
SIZES = (1, 3, 5, 7, 15, 16, 17, 31, 33)


def in_turn(*axes, targets=TARGETS):
    """Every combination of what lies along the axes on one target, which is another for the next along each axis; the first
    on every target. Kernels take long to compile, and which of the cases a target has makes no difference to another.
    """
    first, *rest = product(*(enumerate(axis) for axis in axes))
    cases = [(name, first) for name in targets]
    cases += [(targets[sum(i for i, _ in case) % len(targets)], case) for case in rest]
    return [pytest.param(name, *(value for _, value in case)) for name, case in cases]


@cache
def function(kernel, name):
    """Kernels are kept on disk, as in use: other tests, processes and runs may have compiled them."""
    address = CpuBackend(name).code.address(KernelName(kernel.family, kernel.parameters))
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)(address)


def launch(plan: Launch, name: str, buffers: dict[str, np.ndarray], order=None) -> None:
    """Run all chunks (in the given order) with the buffers by argument name."""
    if not plan.chunks:
        return
    names = FAMILIES[plan.kernel.family].arguments
    assert tuple(plan.arguments) == names[: len(plan.arguments)], (tuple(plan.arguments), names)
    assert set(plan.buffers) == set(buffers), (plan.buffers, tuple(buffers))
    values = {key: value + (buffers[key].ctypes.data if key in buffers else 0) for key, value in plan.arguments.items()}
    tables = {key: np.ascontiguousarray(table, np.int64) for key, table in plan.tables.items()}
    values |= {key: table.ctypes.data for key, table in tables.items()}
    arguments = np.array(list(values.values()), np.int64)
    store = np.zeros(plan.scratch + NOTE + 64, np.float32)
    first = NOTE + -store.ctypes.data % 64 // 4
    scratch = store[first : first + plan.scratch]
    store[first + plan.scratch :] = 12345
    run = function(plan.kernel, name)
    for chunk in order or range(plan.chunks):
        store[:first], scratch[:] = 0, np.nan
        run(arguments.ctypes.data, chunk, scratch.ctypes.data)
    assert (store[first + plan.scratch :] == 12345).all(), "the kernel wrote past its scratch"


def guarded(shape, fill=np.nan, dtype=np.float32):
    """An array whose address is a multiple of 4 only, between guards that `check_guards` looks at."""
    size = int(np.prod(shape))
    store = np.full(size + 67, 77, dtype)
    view = store[33 : 33 + size].reshape(shape)
    view[...] = fill
    return view


def check_guards(view) -> None:
    store = view
    while store.base is not None:
        store = store.base
    assert (store[:33] == 77).all(), "written before the buffer"
    assert (store[33 + view.size :] == 77).all(), "written past the buffer"


def place(array):
    """A copy of a float array in a guarded, unaligned buffer."""
    array = np.asarray(array)
    dtype = np.float32 if array.dtype.kind == "f" or array.dtype.kind in "iu" else array.dtype
    view = guarded(array.shape, 0, dtype)
    view[...] = array
    return view


def block(array, lanes):
    """[N, C, spatial...] as [N, CB, spatial..., L], padded lanes zero."""
    n, c, *space = array.shape
    count = -(-c // lanes)
    padded = np.zeros((n, count * lanes, *space), array.dtype)
    padded[:, :c] = array
    return np.ascontiguousarray(np.moveaxis(padded.reshape(n, count, lanes, *space), 2, -1))


def unblock(array, channels):
    """[N, CB, spatial..., L] as [N, C, spatial...]; the padded lanes must be zero."""
    moved = np.moveaxis(array, -1, 2)
    whole = moved.reshape(moved.shape[0], -1, *moved.shape[3:])
    assert (whole[:, channels:] == 0).all(), "padded lanes are not zero"
    return whole[:, :channels]
