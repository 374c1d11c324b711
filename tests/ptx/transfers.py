"""Loads and stores: parameters, global and shared memory."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from tests.ptx.decode import Decoder, instruction
from tests.ptx.registers import DTYPES, Active, Array, Step, as_type
from tests.ptx.text import Instruction, vector

if TYPE_CHECKING:
    from tests.ptx.machine import Run

KINDS = [f"{letter}{bits}" for letter in "bus" for bits in (8, 16, 32, 64)] + ["f32", "f64"]
_VECTORS = {"": 1, ".v2": 2, ".v4": 4}


def _opcodes(*starts: str) -> list[str]:
    return [f"{s}{v}.{k}" for s in starts for v, n in _VECTORS.items() for k in KINDS if n * int(k[1:]) <= 128]


@instruction(*(f"ld.param.{kind}" for kind in KINDS))
def _parameter(d: Decoder, what: Instruction) -> Step:
    write, dtype = d.writer(what.operands[0]), DTYPES[what.opcode.rpartition(".")[2]]
    m = re.fullmatch(r"\[([\w$]+)\]", what.operands[1])
    assert m is not None, what.text
    return lambda run, active: write(run, as_type(run.parameters[m[1]], dtype), active)


def _shape(opcode: str) -> tuple[str, int, int]:
    """The element's type, its bytes, and how many there are."""
    kind = opcode.rpartition(".")[2]
    return kind, int(kind[1:]) // 8, next((n for v, n in _VECTORS.items() if v and f"{v}." in opcode), 1)


def _spread(run: Run, value: Array, lanes: Array, active: Active) -> Array:
    """An array of all threads, of which `lanes` have a value."""
    if active is None:
        return value
    full = np.zeros(run.lanes, value.dtype)
    full[lanes] = value
    return full


@instruction(*_opcodes("ld.global", "ld.global.nc", "ld.shared"))
def _load(d: Decoder, what: Instruction) -> Step:
    kind, size, count = _shape(what.opcode)
    writers, address = [d.writer(o) for o in vector(what.operands[0])], d.address(what.operands[1])
    shared = what.opcode.startswith("ld.shared")

    def load(run: Run, active: Active) -> None:
        lanes = run.those(active)
        at = run.full(address(run))[lanes]
        values = _from_shared(run, lanes, at, size, count) if shared else _from_global(run, lanes, at, size, count)
        for write, value in zip(writers, values, strict=True):
            write(run, _spread(run, value, lanes, active).view(DTYPES[kind]), active)

    return load


def _from_global(run: Run, lanes: Array, at: Array, size: int, count: int) -> list[Array]:
    values = run.memory.load(at, size, count, run.block[lanes])
    if run.figures is not None:
        run.figures.count_global(lanes, at, size * count)
    return values


def _from_shared(run: Run, lanes: Array, at: Array, size: int, count: int) -> list[Array]:
    assert size >= 4, "bytes of shared memory"
    place = run.shared.place(at, size * count, run.row[lanes])
    if run.figures is not None:
        run.figures.count_shared(lanes, at, size * count)
    words = run.shared.load(lanes, place, run.epochs(lanes), size * count // 4)
    if size == 4:
        return words
    return [low | high.astype(np.uint64) << np.uint64(32) for low, high in zip(words[::2], words[1::2], strict=True)]


@instruction(*_opcodes("st.global", "st.shared"))
def _store(d: Decoder, what: Instruction) -> Step:
    kind, size, _ = _shape(what.opcode)
    address, readers = d.address(what.operands[0]), [d.reader(o, kind) for o in vector(what.operands[1])]
    shared = what.opcode.startswith("st.shared")

    def store(run: Run, active: Active) -> None:
        lanes = run.those(active)
        at = run.full(address(run))[lanes]
        values = [run.full(read(run))[lanes].view(f"u{size}") for read in readers]
        count = len(values)
        if not shared:
            run.memory.store(at, size, values, run.block[lanes])
            if run.figures is not None:
                run.figures.count_global(lanes, at, size * count)
            return
        assert size >= 4, "bytes of shared memory"
        place = run.shared.place(at, size * count, run.row[lanes])
        if run.figures is not None:
            run.figures.count_shared(lanes, at, size * count)
        if size == 8:
            values = [part for v in values for part in (v.astype(np.uint32), (v >> np.uint64(32)).astype(np.uint32))]
        run.shared.store(lanes, place, run.epochs(lanes), values)

    return store
