"""The packing of weights of groups that are not whole blocks of channels. `bands_plan.py` has the arguments."""

from __future__ import annotations

from typing import Any

from numba import types

from .. import Family
from ..code.vector import indices
from ..code.vector import vectors as vector_operations
from ..target import Target
from .bands_plan import BAND_PACK_ARGUMENTS

A = indices(BAND_PACK_ARGUMENTS)


def _make_pack(target: Target) -> Any:
    V = vector_operations(target)
    lanes = target.lanes

    def kernel(arguments, chunk, scratch):
        taps, out_channels, in_channels = arguments[A.tap_count], arguments[A.out_channels], arguments[A.in_channels]
        bands, source_taps = (
            V.integer_offset(V.integers(arguments[A.bands]), chunk * 6),
            V.integers(arguments[A.source_taps]),
        )
        first, count, across, low, high = bands[0], bands[1], bands[2] * lanes, bands[3], bands[4]
        to = V.offset(V.floats(arguments[A.packed]), bands[5])
        for i in range(0, (high - low) * taps * across, lanes):
            V.store(V.foreign(), to, i)
        for o in range(first, first + count):
            group = o // out_channels
            source = V.offset(
                V.floats(arguments[A.source]),
                group * arguments[A.group_stride] + (o - group * out_channels) * arguments[A.out_stride],
            )
            for k in range(in_channels):
                i = group * in_channels + k
                # of the channel's block, those within the band; the blocks before it are whole but the first
                begin = max(low, i // lanes * lanes)
                depth = min(high, (i // lanes + 1) * lanes) - begin
                place = V.offset(to, ((begin - low) * taps + i - begin) * across + o - first)
                line = V.offset(source, k * arguments[A.in_stride])
                for tap in range(taps):
                    place[tap * depth * across] = line[source_taps[tap]] + types.float32(0.0)  # no -0 is its own

    return kernel


FAMILIES = (
    Family(
        "conv_pack_bands",
        BAND_PACK_ARGUMENTS,
        _make_pack,
        "oihw weights of groups into the form of banded conv_direct.",
    ),
)
