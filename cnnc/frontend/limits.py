"""Bounds of elaboration, each with its own error code."""

from __future__ import annotations

import os

LAYERS_LIMIT = 20_000  # E0405, counted while blocks and loops unfold
ROUNDS_LIMIT = 100_000  # E0407, rounds of one loop
STEPS_LIMIT = 1_000_000  # E0407, statements and expressions, and the items of what they make
CALLS_LIMIT = 64  # E0408, blocks within blocks
FILES_LIMIT = 64  # E0313, files that a model includes


def available_memory() -> int:
    """Bytes of memory that a program may still take; 16 GiB where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as f:
            for line in f:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return 16 << 30
