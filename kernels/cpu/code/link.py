"""Object code into memory without LLVM: a loader for the ELF files of 64-bit x86 that `compile.build` writes.

A kernel is a few kilobytes of code and constants which refer to each other, and at most to memcpy and its kin. To load it is
to copy its sections and to fill in those references. LLVM's own loader does more, takes longer, and brings all of LLVM along.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import sys
from functools import lru_cache
from typing import Any

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QQq")
_X86_64, _RELOCATABLE = 62, 1
_SYMTAB, _RELA, _NOBITS = 2, 4, 8  # kinds of sections
_UNWIND = 0x70000001
_ALLOCATED = 2
_ABSOLUTE, _RELATIVE, _CALL = 1, 2, 4  # R_X86_64_64, _PC32, _PLT32
_LIBRARY = ("memcpy", "memset", "memmove")
_JUMP = bytes.fromhex("ff2500000000")  # jmp *0(%rip), to the eight bytes that follow
_STUB = 16


class UnlinkableError(ValueError):
    """An object file, or a machine, that this loader does not know."""


@lru_cache(maxsize=1)
def _library() -> tuple[Any, dict[str, int]]:
    """The C library, and the addresses of what kernels call."""
    library = ctypes.CDLL(None, use_errno=True)
    library.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return library, {n: ctypes.cast(getattr(library, n), ctypes.c_void_p).value or 0 for n in _LIBRARY}


def usable() -> bool:
    """Whether this process is one of 64-bit x86 on Linux."""
    return sys.platform == "linux" and os.uname().machine == "x86_64" and sys.maxsize > 2**32


def load(code: bytes, symbol: str) -> int:
    """The address of a symbol in an object file. Raises `UnlinkableError` where LLVM's loader has to be asked."""
    if not usable():
        raise UnlinkableError("not 64-bit x86 on Linux")
    try:
        return _load(code, symbol)
    except (struct.error, IndexError, UnicodeDecodeError, OSError, AttributeError) as e:
        raise UnlinkableError(str(e)) from None


def _load(code: bytes, symbol: str) -> int:
    head = _HEADER.unpack_from(code)
    if head[0][:6] != b"\x7fELF\x02\x01" or head[1:3] != (_RELOCATABLE, _X86_64):
        raise UnlinkableError("no relocatable ELF file of 64-bit x86")
    sections = [_SECTION.unpack_from(code, head[6] + i * _SECTION.size) for i in range(head[12])]
    placed: dict[int, int] = {}  # section -> offset
    size = 0
    for i, (_, kind, flags, _, _, length, _, _, alignment, _) in enumerate(sections):
        if flags & _ALLOCATED and kind != _UNWIND:  # nothing is thrown through kernels
            size = -(-size // max(alignment, 1)) * max(alignment, 1)
            placed[i], size = size, size + length
    stubs = -(-size // _STUB) * _STUB
    block = mmap.mmap(
        -1, stubs + _STUB * len(_LIBRARY), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE
    )
    base = ctypes.addressof(ctypes.c_char.from_buffer(block))
    for i, offset in placed.items():
        _, kind, _, _, start, length, *_ = sections[i]
        if kind != _NOBITS:
            block[offset : offset + length] = code[start : start + length]
    library, known = _library()
    calls = {}
    for i, name in enumerate(_LIBRARY):
        at = stubs + i * _STUB
        block[at : at + 14] = _JUMP + known[name].to_bytes(8, "little")
        calls[name] = base + at

    table = next((s for s in sections if s[1] == _SYMTAB), None)
    if table is None:
        raise UnlinkableError("no symbols")
    names = sections[table[6]][4]

    def address(index: int) -> tuple[str, int]:
        """Name and address of a symbol; 0 for what is not loaded."""
        name_at, _, _, section, value, _ = _SYMBOL.unpack_from(code, table[4] + index * _SYMBOL.size)
        name = code[names + name_at : code.index(b"\0", names + name_at)].decode()
        return name, base + placed[section] + value if section in placed else calls.get(name, 0)

    for _, kind, _, _, start, length, _, target, _, _ in sections:
        if kind == _RELA and target in placed:
            for at in range(start, start + length, _RELOCATION.size):
                offset, info, addend = _RELOCATION.unpack_from(code, at)
                _refer(block, placed[target] + offset, base, info & 0xFFFFFFFF, *address(info >> 32), addend)
    found = dict(address(i) for i in range(table[5] // _SYMBOL.size)).get(symbol, 0)
    if not found:
        raise UnlinkableError(f"no symbol '{symbol}'")
    if library.mprotect(base, len(block), mmap.PROT_READ | mmap.PROT_EXEC):
        raise OSError(ctypes.get_errno(), "the memory cannot be made executable")
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(block))  # threads may be in it while the interpreter ends
    return found


def _refer(block: mmap.mmap, where: int, base: int, kind: int, name: str, goal: int, addend: int) -> None:
    """Write a reference to a symbol into the block, which begins at the address `base`."""
    if not goal or kind not in (_ABSOLUTE, _RELATIVE, _CALL):
        raise UnlinkableError(f"a reference of kind {kind} to '{name}'")
    if kind == _ABSOLUTE:
        struct.pack_into("<Q", block, where, goal + addend)
    else:
        struct.pack_into("<i", block, where, goal + addend - (base + where))
