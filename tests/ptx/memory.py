"""Global and shared memory, and what may not be done with them."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.ptx.registers import Array
from tests.ptx.text import Fault

BASE, GUARD, ALIGNMENT = 1 << 32, 256, 256  # where global memory begins, and the bytes from one allocation to the next
POISON = 0x7FC0DEAD  # a NaN
SEVERAL = -2  # readers


def _refuse_unaligned(address: Array, size: int, where: str) -> None:
    off = address[address & (size - 1) != 0]
    if len(off):
        raise Fault(f"misaligned: {where} address {int(off[0]):#x} is no multiple of {size}")


class Global:
    """Allocations with guards between them.

    Words of 4 bytes know who wrote and who read them in the launch that runs: blocks may come in any order, so that none may
    read or write what another writes.
    """

    def __init__(self, size: int = 1 << 20) -> None:
        self._end, self._launch, self.size = GUARD, 0, 0
        self._ends = [0]  # of each allocation, from BASE
        self._grow(size)

    def _grow(self, size: int) -> None:
        def longer(name: str, dtype: Any, count: int, fill: int) -> None:
            new = np.full(count, fill, dtype)
            if self.size:
                old = getattr(self, name)
                new[: len(old)] = old
            setattr(self, name, new)

        size = -(-size // 8) * 8
        longer("words", np.uint32, size // 4, POISON)
        longer("_owner", np.int32, size // 4, 0)
        longer("_known", np.uint8, size, 0)
        longer("_writer", np.int64, size // 4, -1)
        longer("_reader", np.int64, size // 4, -1)
        self.size = size

    words: Array
    _owner: Array
    _known: Array
    _writer: Array
    _reader: Array

    def allocate(self, size: int) -> int:
        """The address of so many bytes, which nothing has written yet."""
        begin, self._end = self._end, -(-(self._end + max(size, 1)) // ALIGNMENT) * ALIGNMENT + GUARD
        if self._end > self.size:
            self._grow(max(self._end, 2 * self.size))
        self._owner[begin // 4 : -(-(begin + size) // 4)] = len(self._ends)
        self._ends.append(begin + size)
        return BASE + begin

    def release(self, address: int) -> None:
        """From now on every access to the allocation is a fault."""
        number = self._owner[(address - BASE) // 4]
        begin, end = address - BASE, self._ends[number]
        self._owner[begin // 4 : -(-end // 4)] = 0

    def _span(self, address: int, size: int) -> slice:
        begin = address - BASE
        number = int(self._owner[begin // 4]) if 0 <= begin < self.size else 0
        if size and (not number or begin + size > self._ends[number]):
            raise Fault(f"a copy of {size} bytes at {address:#x} leaves its allocation")
        return slice(begin, begin + size)

    def write(self, address: int, array: Array) -> None:
        where = self._span(address, array.nbytes)
        self.words.view(np.uint8)[where] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        self._known[where] = 255

    def read(self, address: int, dtype: Any, shape: tuple[int, ...]) -> Array:
        where = self._span(address, int(np.dtype(dtype).itemsize * np.prod(shape, dtype=np.int64)))
        return self.words.view(np.uint8)[where].view(dtype).reshape(shape).copy()

    def put(self, array: Array) -> int:
        """The address of a copy of an array."""
        address = self.allocate(array.nbytes)
        self.write(address, array)
        return address

    # ---- accesses of kernels

    def begin(self) -> None:
        """A launch begins."""
        self._launch += 1

    def _place(self, address: Array, size: int, what: str) -> Array:
        """The numbers of the first words of accesses of `size` bytes."""
        _refuse_unaligned(address, size, "global")
        at = address - BASE
        inside = (at >= 0) & (at <= self.size - size)
        number = self._owner[np.where(inside, at, 0) >> 2]
        if inside.all() and number.all():
            if size <= 4 or (self._owner[(at + size - 1) >> 2] == number).all():
                ends = np.take(self._ends, number) if size & 3 or size < 4 else None
                if ends is None or (at + size <= ends).all():
                    return at >> 2
        bad = np.flatnonzero(~inside | (number == 0))
        first = int(address[bad[0] if len(bad) else 0])
        raise Fault(
            f"out of bounds: {len(bad) or 'some'} threads {what} {size} bytes outside of every buffer, at {first:#x}"
        )

    def load(self, address: Array, size: int, count: int, block: Array) -> list[Array]:
        """`count` elements of `size` bytes as unsigned integers; block: of each access."""
        at = self._place(address, size * count, "read")
        for i in range(max(1, size * count // 4)):
            self._refuse_other(at + i, block, self._writer, "a block reads what another writes in the same launch")
            reader, mine = self._reader[at + i], self._tag(block)
            others = reader >> 32 == self._launch
            self._reader[at + i] = np.where(others & (reader != mine), self._tag(np.array(0xFFFFFFFF)), mine)
            once = self._reader[at + i] != mine  # of several blocks in one access, one was kept
            self._reader[at[once] + i] = self._tag(np.array(0xFFFFFFFF))
        place, data, known = (address - BASE) // size, self.words.view(f"u{size}"), self._known.view(f"u{size}")
        if any((known[place + i] != np.iinfo(known.dtype).max).any() for i in range(count)):
            raise Fault("uninitialised: global memory is read that nothing has written")
        return [data[place + i] for i in range(count)]

    def store(self, address: Array, size: int, values: list[Array], block: Array) -> None:
        at = self._place(address, size * len(values), "write")
        mine = self._tag(block)
        for i in range(max(1, size * len(values) // 4)):
            self._refuse_other(at + i, block, self._reader, "a block writes what another reads in the same launch")
            self._refuse_other(at + i, block, self._writer, "two blocks write one address")
            self._writer[at + i] = mine
            if size >= 4 and (self._writer[at + i] != mine).any():
                raise Fault("two blocks write one address")
        place, data, known = (address - BASE) // size, self.words.view(f"u{size}"), self._known.view(f"u{size}")
        for i, value in enumerate(values):
            data[place + i] = value
            known[place + i] = np.iinfo(known.dtype).max

    def _tag(self, block: Array) -> Array:
        return np.int64(self._launch) << 32 | block

    def _refuse_other(self, at: Array, block: Array, who: Array, message: str) -> None:
        found = who[at]
        if ((found >> 32 == self._launch) & (found != self._tag(block))).any():
            raise Fault(f"race: {message}")


class Shared:
    """Shared memory of the blocks that run together: words, and which thread wrote and read each since the last barrier of its
    block (`epoch`).
    """

    def __init__(self, blocks: int, size: int) -> None:
        self.size, self.stride = size, -(-size // 4) + 1
        count = blocks * self.stride
        self.words = np.full(count, POISON, np.uint32)
        self.known = np.zeros(count, bool)
        self.flying = np.zeros(count, np.int32)  # copies to it that are under way
        self.unseen = np.zeros(count, bool)  # written, and by tensor cores not to be read before a fence
        self.write_epoch, self.writer = np.full(count, -1), np.full(count, -1)
        self.read_epoch, self.reader = np.full(count, -1), np.full(count, -1)

    def place(self, address: Array, size: int, block: Array) -> Array:
        """The first word of each access; block: which of those that run together."""
        _refuse_unaligned(address, size, "shared")
        if (address < 0).any() or (address + size > self.size).any():
            reach = f"{int(address.min())} to {int(address.max()) + size}"
            raise Fault(f"out of bounds: shared memory has {self.size} bytes, and {reach} are wanted")
        return (address >> 2) + block * self.stride

    def touch(self, lanes: Array, at: Array, epoch: Array, write: bool) -> None:
        """Threads access words. Raises `Fault` where another one did since the last barrier, and one of them writes."""
        if self.flying[at].any():
            raise Fault("no wait: shared memory is touched while a copy to it is under way")
        if ((self.write_epoch[at] == epoch) & (self.writer[at] != lanes)).any():
            raise Fault(f"race: no barrier between two threads that {'write' if write else 'write and read'} a word")
        if not write:
            again = (self.read_epoch[at] == epoch) & (self.reader[at] != lanes)
            self.reader[at] = np.where(again, SEVERAL, lanes)
            self.reader[at[self.reader[at] != lanes]] = SEVERAL
            self.read_epoch[at] = epoch
            return
        if ((self.read_epoch[at] == epoch) & (self.reader[at] != lanes)).any():
            raise Fault("race: no barrier between a thread that reads a word and one that writes it")
        self.write_epoch[at], self.writer[at] = epoch, lanes
        if (self.writer[at] != lanes).any():
            raise Fault("race: two threads write a word at once")

    def load(self, lanes: Array, at: Array, epoch: Array, count: int) -> list[Array]:
        """`count` words of each."""
        for i in range(count):
            self.touch(lanes, at + i, epoch, False)
            if not self.known[at + i].all():
                raise Fault("uninitialised: shared memory is read that nothing has written")
        return [self.words[at + i] for i in range(count)]

    def store(self, lanes: Array, at: Array, epoch: Array, values: list[Array]) -> None:
        for i, value in enumerate(values):
            self.touch(lanes, at + i, epoch, True)
            self.words[at + i], self.known[at + i], self.unseen[at + i] = value, True, True
