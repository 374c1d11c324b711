"""Compiles kernels for GPUs and runs their PTX in NumPy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cnnc.kernels.cpu.launches import Launch
from cnnc.kernels.cuda import Kernel
from cnnc.kernels.cuda.code.compile import build
from cnnc.kernels.cuda.code.program import Image
from cnnc.kernels.cuda.target import LANES, LEAST
from tests.ptx.figures import Figures
from tests.ptx.machine import Machine
from tests.ptx.memory import Global
from tests.ptx.registers import Array
from tests.ptx.text import Module, parse

RNG = np.random.default_rng(5)


@lru_cache(maxsize=256)
def compiled(kernel: Kernel) -> tuple[Image, Module]:
    image = Image(build(kernel, LEAST).decode())
    return image, parse(image.text)


@dataclass(frozen=True)
class Result:
    """What a launch left in the buffers that it was to write."""

    arrays: Mapping[str, Array]
    figures: Figures

    def __getitem__(self, name: str) -> Array:
        return self.arrays[name]


def run(
    launch: Launch, given: Mapping[str, Array], results: Mapping[str, Array], inplace: Mapping[str, str] | None = None
) -> Result:
    """Run a step. given: buffers that it reads. results: arrays like those that it writes, which hold poison before. inplace: results
    that lie where an operand does.
    """
    image, module = compiled(launch.kernel)
    machine = Machine(module, Global())
    at = {name: machine.memory.put(array) for name, array in given.items()}
    at |= {name: machine.memory.put(table) for name, table in launch.tables.items()}
    for name, like in results.items():
        at[name] = at[inplace[name]] if inplace and name in inplace else machine.memory.allocate(like.nbytes)
    values = [number + at.get(name, 0) for name, number in launch.arguments.items()]
    assert sum(name in at for name in launch.arguments) == image.addresses, (launch.arguments, sorted(at))
    if launch.chunks:
        machine.launch(launch.chunks, image.threads, values, image.shared)
    return Result(
        {name: machine.memory.read(at[name], a.dtype, a.shape) for name, a in results.items()}, machine.figures
    )


def block(x: Array) -> Array:
    """[N, C, ...] in blocks of channels, zeros behind the last."""
    padded = np.zeros((x.shape[0], -(-x.shape[1] // LANES) * LANES, *x.shape[2:]), np.float32)
    padded[:, : x.shape[1]] = x
    cut = padded.reshape(x.shape[0], -1, LANES, *x.shape[2:])
    return np.ascontiguousarray(np.moveaxis(cut, 2, -1))


def blocked_like(shape: tuple[int, ...]) -> Array:
    return np.empty((shape[0], math.ceil(shape[1] / LANES), *shape[2:], LANES), np.float32)


def unblock(y: Array, channels: int) -> Array:
    """The channels of blocks; those behind the last are zero."""
    plain = np.moveaxis(y, -1, 2).reshape(y.shape[0], -1, *y.shape[2:-1])
    assert not plain[:, channels:].any(), "channels behind the last are not zero"
    return plain[:, :channels]


def integers(*shape: int) -> Array:
    return RNG.integers(-8, 9, shape).astype(np.float32)


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)
