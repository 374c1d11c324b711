"""Narrower vectors than the machine has, for us and for the peers that can be told."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

# oneDNN, inside PyTorch and OpenVINO, and PyTorch's own kernels; read when the libraries are first used
SWITCHES: dict[str, dict[str, str]] = {
    "avx512": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "ATEN_CPU_CAPABILITY": "avx512"},
    "avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
    "sse2": {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"},
}
WHAT = {"avx512": "AVX-512", "avx2": "AVX2", "sse2": "SSE"}
LIBRARIES = {"torch": "torch", "openvino": "openvino"}  # engine -> the module that reads the switches


def force(isa: str, engines: Sequence[str], best: str) -> list[str]:
    """Set the switches; what is to be said about them. best: the widest instruction set of this machine."""
    os.environ |= SWITCHES[isa]
    said = []
    for engine in dict.fromkeys(e.partition("-")[0] for e in engines):
        if engine not in LIBRARIES:
            harmless = "; this machine has nothing wider" if isa == best else ", and uses what the machine has"
            said.append(f"{engine} cannot be held to {WHAT[isa]}: it has no switch{harmless}")
        elif LIBRARIES[engine] in sys.modules:
            said.append(f"{engine} may not be held to {WHAT[isa]}: it was loaded before")
        elif isa == "sse2":
            said.append(f"{engine} is held to SSE4.1, the least that it has")
    return said


def switches(environment: Mapping[str, str]) -> dict[str, str]:
    """The switches that are set."""
    names = dict.fromkeys(name for s in SWITCHES.values() for name in s)
    return {name: environment[name] for name in names if name in environment}
