"""A helper process of `builder.py`: compiles the kernels that it is given.

This file is run by itself, by an interpreter that is told to import nothing but its own standard library. The packages that
kernels need are imported from where the process that asked has them, by name, and no folder is searched for others.

It answers a word with its digest, so that it is known for what it is, reads where the packages are, and then groups of
kernels from its standard input. Every kernel is answered as its length (8 bytes, the first most significant), the digest
of its code, and the code.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pickle
import sys
from collections.abc import Sequence
from typing import Any


def answer(word: str) -> bytes:
    """What an interpreter of this version says to a word: 32 bytes."""
    return hashlib.sha256(f"{word} {sys.version} {sys.implementation.cache_tag}".encode()).digest()


class Packages:
    """Finds packages at the places that it was given: (its file, its folders) by name."""

    def __init__(self, places: dict[str, tuple[str, list[str]]]) -> None:
        self.places = places

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> Any:
        if name not in self.places:
            return None
        file, folders = self.places[name]
        return importlib.util.spec_from_file_location(name, file, submodule_search_locations=folders)


def main() -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what is printed is no answer
    answers.write(answer(sys.argv[1]))
    answers.flush()
    places, module = pickle.load(sys.stdin.buffer)
    sys.meta_path.append(Packages(places))
    compile = importlib.import_module(module)
    while True:
        target, kernels = pickle.load(sys.stdin.buffer)
        for kernel in kernels:
            code = compile.build(kernel, target)
            answers.write(len(code).to_bytes(8, "big") + hashlib.sha256(code).digest() + code)
            answers.flush()


if __name__ == "__main__":
    try:
        main()
    except (EOFError, BrokenPipeError):  # nobody wants more
        os._exit(0)
