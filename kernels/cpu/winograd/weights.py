"""Winograd's weights, transformed: training repeats it at every step."""

from __future__ import annotations

from functools import reduce
from typing import Any

from llvmlite import ir
from numba import types

from .. import Family
from ..code.emit import Emitter
from ..code.pieces import panel_at
from ..code.vector import FLOATS, emitted, indices
from ..code.vector import vectors as vector_operations
from ..problem import FOREIGN
from ..target import Target
from .scheme import PACK_ARGUMENTS, Scheme
from .transforms import weight_line

P = indices(PACK_ARGUMENTS)


def _make_pack(target: Target, outputs: int, taps: int, axes: int) -> Any:
    V = vector_operations(target)
    scheme = Scheme(outputs, taps, axes)
    (high, side), lanes, points = scheme.kernel, target.lanes, scheme.points
    squares = high * side

    def transform(e: Emitter, g: Any, to: Any, point: Any) -> None:
        """to[points], `point` floats apart, = G g G' of r * r vectors, or g G' of a line, in float64; FOREIGN where g is."""
        own = reduce(e.b.or_, (e.is_own(e.load(g, i * lanes)) for i in range(squares)))
        wide = ir.VectorType(ir.DoubleType(), lanes)
        taps = [[e.b.fpext(e.load(g, (side * i + j) * lanes), wide) for j in range(side)] for i in range(high)]
        half = [[row[j] for row in taps] for j in range(side)]
        if axes == 2:
            half = [weight_line(e, scheme, column) for column in half]
        for i in range(scheme.high):
            for value in weight_line(e, scheme, [half[j][i] for j in range(side)]):
                e.store(e.select(own, e.b.fptrunc(value, e.type), e.const(FOREIGN)), to)
                to = e.b.gep(to, [point])

    transform_tile = emitted(target, None, (FLOATS, FLOATS, types.int64), transform)

    def kernel(arguments, chunk, scratch):
        in_blocks, panel = arguments[P.in_blocks], arguments[P.panel]
        unit, in_block = chunk // in_blocks, chunk % in_blocks
        block, size = panel_at(unit, panel, arguments[P.out_blocks] // panel)
        depth = in_blocks * lanes
        packed = V.offset(V.floats(arguments[P.packed]), (points * block * depth + in_block * lanes * size) * lanes)
        source, step = V.floats(arguments[P.source]), arguments[P.tap_step]
        out_stride, in_stride = arguments[P.out_stride], arguments[P.in_stride]
        tap_first = arguments[P.tap_first] + in_block // arguments[P.channel_blocks] * arguments[P.plane_step]
        # All points of the block meet in scratch first, an odd number of vectors apart: as they lie in `packed` they
        # would share few sets of the cache.
        taps, together = V.offset(scratch, 0), V.offset(scratch, squares * lanes)
        across = lanes * size
        apart = (across + 1) * lanes
        for v in range(size):
            first = (block + v) * lanes
            for tap in range(squares):
                V.store(V.zero(), taps, tap * lanes)
            count = min(arguments[P.out_channels] - first, lanes)
            for i in range(lanes):
                channel = in_block % arguments[P.channel_blocks] * lanes + i
                if channel < arguments[P.in_channels]:
                    line = V.offset(source, channel * in_stride + first * out_stride + tap_first)
                    for k in range(count):
                        for tap in range(squares):
                            taps[tap * lanes + k] = line[tap * step]
                        line = V.offset(line, out_stride)
                else:
                    for tap in range(squares):
                        V.store(V.zero(), taps, tap * lanes)
                transform_tile(taps, V.offset(together, (i * size + v) * lanes), apart)
        for point in range(points):
            to = V.offset(packed, point * depth * across)
            for i in range(lanes * size):
                V.store(V.load(together, point * apart + i * lanes), to, i * lanes)

    return kernel


FAMILIES = (Family("winograd_pack_weights", PACK_ARGUMENTS, _make_pack, "oihw weights, transformed, for `winograd`."),)
