"""Which sources decide the text of kernels: their digest is part of the key under which it is kept."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "cpu" / "code"  # the front end, and functions of vectors


@lru_cache(maxsize=1)
def digest() -> str:
    """SHA-256 over all of them."""
    found = hashlib.sha256()
    for path in sorted((*ROOT.rglob("*.py"), *SHARED.rglob("*.py"))):
        found.update(f"{path.relative_to(ROOT.parent).as_posix()} ".encode() + path.read_bytes())
    return found.hexdigest()
