"""From an instruction to a function that runs it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from tests.ptx.figures import WARP
from tests.ptx.registers import DTYPES, Active, Array, Reader, Step, Writer, as_type
from tests.ptx.text import Entry, Fault, Instruction, Module

if TYPE_CHECKING:
    from tests.ptx.machine import Run

Maker = Callable[["Decoder", Instruction], Step]
MAKERS: dict[str, Maker] = {}  # by opcode, with all of its modifiers

_SPECIAL: dict[str, Callable[[Run], Array]] = {
    "%tid.x": lambda run: run.thread, "%ctaid.x": lambda run: run.block, "%ntid.x": lambda run: np.array([run.threads]),
    "%nctaid.x": lambda run: np.array([run.grid]), "%laneid": lambda run: run.thread % WARP,
}  # fmt: skip


def instruction(*opcodes: str) -> Callable[[Maker], Maker]:
    """Says which opcodes a function decodes."""

    def add(maker: Maker) -> Maker:
        for opcode in opcodes:
            assert opcode not in MAKERS, opcode
            MAKERS[opcode] = maker
        return maker

    return add


class Decoder:
    """What operands of an entry mean."""

    def __init__(self, module: Module, entry: Entry) -> None:
        self.module, self.entry = module, entry

    def step(self, what: Instruction) -> Step:
        maker = MAKERS.get(what.opcode)
        if maker is None:
            raise Fault(f"unknown instruction: {what.opcode}")
        return maker(self, what)

    def reader(self, operand: str, kind: str) -> Reader:
        """What reads an operand as a type: an array of all threads, or of one number for all."""
        if operand in self.entry.registers:
            return _register(operand, DTYPES[kind])
        if operand in _SPECIAL:
            of, dtype = _SPECIAL[operand], DTYPES[kind]
            return lambda run: of(run).astype(dtype)
        value = self._constant(operand, DTYPES[kind])
        return lambda run: value

    def _constant(self, operand: str, dtype: np.dtype[np.generic]) -> Array:
        if operand in self.module.shared:
            return np.array([self.module.shared[operand]], dtype)
        if m := re.fullmatch(r"0[fF]([0-9A-Fa-f]{8})|0[dD]([0-9A-Fa-f]{16})", operand):
            size = 4 if m[1] else 8
            return as_type(np.array([int(m[1] or m[2], 16)], f"u{size}"), dtype)
        if m := re.fullmatch(r"(-?)(0x[0-9A-Fa-f]+|\d+)U?", operand):
            bits = int(m[1] + m[2], 0) & (1 << 8 * dtype.itemsize) - 1
            return np.array([bits], f"u{dtype.itemsize}").view(dtype)
        raise Fault(f"unknown operand: {operand}")

    def writer(self, operand: str) -> Writer:
        """What sets a register for the threads that take part. The value has its type or size, or is an integer that is narrower."""
        if operand == "_":
            return lambda run, value, active: None
        if operand not in self.entry.registers:
            raise Fault(f"unknown register: {operand}")
        wanted = DTYPES[self.entry.registers[operand]]

        def write(run: Run, value: Array, active: Active) -> None:
            if value.dtype != wanted:
                if value.dtype.itemsize < wanted.itemsize:
                    value = value.astype(f"{value.dtype.kind}{wanted.itemsize}")
                value = as_type(value, wanted)
            run.put(operand, value, active)

        return write

    def address(self, operand: str) -> Reader:
        """[register + offset], [shared array + offset], in bytes."""
        m = re.fullmatch(r"\[\s*([^\s+\]]+?)\s*(?:\+\s*(-?\w+)|(-\d+))?\s*\]", operand)
        if m is None:
            raise Fault(f"unknown address: {operand}")
        offset = int(m[2] or m[3] or "0", 0)
        wide = self.entry.registers.get(m[1], "b64").endswith("64")
        read = self.reader(m[1], "u64" if wide else "u32")
        return lambda run: read(run).astype(np.int64) + offset


def _register(name: str, dtype: np.dtype[np.generic]) -> Reader:
    def read(run: Run) -> Array:
        value = run.take(name)
        return value if value.dtype == dtype else as_type(value, dtype)

    return read
