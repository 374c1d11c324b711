"""Winograd's convolution of stride 1 on blocked activations: F(m x m, 3x3) with m of 2 to 4, F(2x2, 5x5) and F(3x3, 5x5).

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015). With m x m outputs of a tile, r x r taps and
n = m + r - 1:

    Y = A' [(G g G') * (B' d B)] A        d: n x n inputs, g: r x r weights, Y: m x m outputs, *: element by element

or of a single row Y = [(g G') * (d B)] A,
summed over the input channels before A', which makes n x n matrix products, one for each point: M[point] = V[point]
U[point], V of [tile][input channel], U of [input channel][filter]. `scheme.py` has the interpolation points,
`plan.py` computes the arguments and says what they mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, reduce
from typing import Any

from llvmlite import ir
from numba import types

from .. import Family
from ..code.channels import gather_body
from ..code.emit import F32, I1, Emitter, i64
from ..code.loops import picking, pointers
from ..code.partial import Own, Places, in_parts, most_terms, own_sums, room_for
from ..code.pieces import panel_at
from ..code.vector import FLOATS, INTEGERS, Linked, external, indices, piece
from ..code.vector import vectors as vector_operations
from ..target import Target
from .plan import WINOGRAD_ARGUMENTS
from .scheme import Scheme
from .transforms import COLUMNS, ROWS, itself, output_line, strip_columns, strip_rows

A = indices(WINOGRAD_ARGUMENTS)
OPERANDS = len(WINOGRAD_ARGUMENTS)

_N = types.int64
_GATHER = (INTEGERS, FLOATS, _N, _N)
_PRODUCT = (FLOATS, FLOATS, FLOATS, FLOATS, _N, _N, _N, _N, _N, _N)
_INVERSE = (FLOATS, INTEGERS, FLOATS, FLOATS, _N, _N, _N, _N)


@dataclass(frozen=True)
class Specialization:
    """What the code depends on beside the scheme. The product is one of `tiles` tiles by `vectors` vectors of filters, or where some
    are `uneven` of one tile less, or of a `tail` of single vectors. Where `masked`, only the channels that there are keep a value;
    where groups were `merged`, weights between them count for nothing in sums that are not finite. Of each `window` x `window`
    outputs the largest is kept.
    """

    tiles: int
    vectors: int
    uneven: bool
    tail: bool
    masked: bool
    expression: Any
    operands: tuple[str, ...]
    window: int
    merged: bool = False


# ---- bodies of what the outer loops call


def _product(target: Target, merged: bool) -> Any:
    """m[size][tiles] = the sum over `blocks` blocks of input channels of v[block][tile][lane] times u[block][lane][size], of so many
    tiles and vectors of filters.

    Of the last block only the first `few` channels count. Vectors of m and blocks of v are `v_block` floats apart.
    Where groups were `merged`, weights between them count for nothing in sums that are not finite.
    Meanwhile weights that will be wanted soon, from `ahead`, come closer: `step` floats for every vector that is read, as
    what is used once, so that they displace little of V and M in the second level cache.
    """
    lanes = target.lanes

    def body(e: Emitter, shape: tuple[int, int], v: Any, u: Any, m: Any, ahead: Any, *numbers: Any) -> None:
        (tiles, size), (step, blocks, few, v_block) = shape, numbers
        # Two steps in one body make LLVM hold both steps' weights: only where there are registers for them.
        unroll = 2 if tiles * size + 4 * size + 8 < target.registers else 1
        b = e.b
        last, few = b.sub(blocks, i64(1)), b.sdiv(few, i64(unroll))

        def over_channels(_: Any, carried: list[Any]) -> list[Any]:
            vt, ut, soon, *acc = carried
            for s in range(size * unroll):
                e.prefetch(e.at(soon, s * lanes), 0)
            for k in range(unroll):
                us = [e.load(ut, lanes * (k * size + s)) for s in range(size)]
                for t in range(tiles):
                    value = e.broadcast(vt, t * lanes + k)
                    for s in range(size):
                        acc[t * size + s] = e.fma(value, us[s], acc[t * size + s])
            return [e.at(vt, unroll), e.at(ut, unroll * size * lanes), e.at(soon, step), *acc]

        def over_blocks(i: Any, carried: list[Any]) -> list[Any]:
            vb, ub, soon, *acc = carried
            steps = b.select(b.icmp_signed("<", i, last), i64(lanes // unroll), few)
            _, *out = e.loop(steps, [vb, ub, soon, *acc], over_channels)
            return [b.gep(vb, [v_block]), *out]

        def own_of(done: Any, length: Any, carried: list[Any]) -> list[Any]:
            """The sums of `length` blocks after the first `done`, without products between groups, tile by tile."""
            room = room_for(e, tiles * size)

            def over_tiles(t: Any, _: list[Any]) -> list[Any]:
                def block(i: Any, carried: list[Any]) -> list[Any]:
                    vb, ub, *acc = carried
                    full = b.icmp_signed("<", b.add(done, i), last)
                    channels = b.select(full, i64(lanes), b.mul(few, i64(unroll)))
                    return [
                        b.gep(vb, [v_block]),
                        e.at(ub, lanes * size * lanes),
                        *own_sums(e, acc, vb, ub, channels, size),
                    ]

                first = b.gep(carried[0], [b.mul(t, i64(lanes))])
                _, _, *acc = e.loop(length, [first, carried[1], *[e.const(0)] * size], block)
                for s, value in enumerate(acc):
                    e.store(value, room, b.mul(b.add(b.mul(t, i64(size)), i64(s)), i64(lanes)))
                return []

            e.loop(i64(tiles), [], over_tiles)
            return [e.load(room, i * lanes) for i in range(tiles * size)]

        step, heads = b.mul(step, i64(unroll * size)), pointers(e, m, v_block, size)
        kept = Places(e, [(head, t * lanes) for t in range(tiles) for head in heads])
        zeros, alone, own = [e.const(0)] * len(kept.places), ir.Constant(I1, 1), Own(own_of, size) if merged else None
        kept.write(in_parts(e, blocks, most_terms(lanes), alone, [v, u, ahead], zeros, over_blocks, kept, own))

    return body


def _inverse(scheme: Scheme, s: Specialization) -> Any:
    """The first rows x columns outputs of a tile and a block of filters: A' m A, the bias, the expression, and of each
    window x window of them the largest.
    """
    n, tree, window = scheme.size, s.expression, s.window
    down = output_line if scheme.axes == 2 else itself

    def body(e: Emitter, m: Any, arguments: Any, head: Any, half: Any, place: Any, rows: Any, columns: Any,
             valid: Any) -> None:  # fmt: skip
        b, lanes = e.b, e.lanes

        def argument(index: int) -> Any:
            return b.load(b.gep(arguments, [i64(index)]), align=8)

        def tensor(index: int) -> Any:
            return b.gep(b.inttoptr(argument(index), F32.as_pointer()), [place])

        m_point, y_row, y_pixel = argument(A.m_point), argument(A.y_row), argument(A.y_pixel)

        def vertical(_: Any, carried: list[Any]) -> list[Any]:
            source, to = carried
            values, line = [], source
            for _i in range(scheme.high):
                values.append(e.load(line))
                line = b.gep(line, [b.mul(m_point, i64(n))])
            for r, value in enumerate(down(e, scheme, values)):
                e.store(value, to, n * lanes * r)
            return [b.gep(source, [m_point]), e.at(to, lanes)]

        e.loop(i64(n), [m, half], vertical)
        bias = e.load(head)
        mask = e.first_lanes(valid) if s.masked else None
        kinds = tuple(enumerate(s.operands))
        channel = {f"a{i}": e.load(head, lanes * s.vectors * (i + 1)) for i, kind in kinds if kind != "full"}
        full = [i for i, kind in kinds if kind == "full"]

        def finished(value: Any, places: list[Any]) -> Any:
            variables = {"y": b.fadd(value, bias), **channel}
            for i, pointer in zip(full, places[1:], strict=True):
                variables[f"a{i}"] = e.load(pointer)
            return variables["y"] if tree is None else e.expression(tree, variables)

        def horizontal(_: Any, carried: list[Any]) -> list[Any]:
            source, *places = carried
            lines = [
                output_line(e, scheme, [e.load(source, lanes * (n * i + c)) for c in range(n)]) for i in range(window)
            ]
            for j in range(scheme.outputs // window):
                with b.if_then(b.icmp_signed("<", i64(j), columns)):
                    spots = [b.gep(p, [b.mul(y_pixel, i64(j))]) for p in places]
                    values = [finished(v, spots) for line in lines for v in line[window * j : window * (j + 1)]]
                    result = reduce(lambda best, value: e.maximum(value, best), values)
                    e.store(e.select(mask, result, e.const(0)) if s.masked else result, spots[0])
            return [e.at(source, window * n * lanes), *(b.gep(p, [y_row]) for p in places)]

        e.loop(rows, [half, tensor(A.y), *(tensor(OPERANDS + i) for i in full)], horizontal)

    return body


# ---- the outer loops


@cache
def _transform(target: Target, scheme: Scheme) -> Any:
    """A piece: transform(arguments, scratch, first, last) makes V of the tiles from `first` to `last`."""
    V = vector_operations(target)
    lanes, size_of, tall_of, overlap = target.lanes, scheme.outputs, scheme.tall, scheme.taps - 1
    columns, rows = external("columns", COLUMNS), external("rows", ROWS)

    def transform(arguments, scratch, first, last):
        across = arguments[A.tile_columns]
        per_image = across * arguments[A.tile_rows]
        down, along = arguments[A.row_dilation], arguments[A.column_dilation]
        phases = down * along
        v, v_block, v_point = V.offset(scratch, arguments[A.v_at]), arguments[A.v_block], arguments[A.v_point]
        zeros, strip = V.offset(scratch, arguments[A.zeros_at]), V.offset(scratch, arguments[A.strip_at])
        V.store(V.zero(), zeros, 0)
        tile = first
        while tile < last:
            inside, phase = tile % per_image, tile // per_image % phases
            column = inside % across
            count = min(min(across - column, last - tile), arguments[A.segment])
            # the image's first row and column of this phase, and how many rows of padding lie before them
            row_from = (phase // along - arguments[A.top]) % down
            column_from = (phase % along - arguments[A.left]) % along
            top = inside // across * tall_of - (arguments[A.top] + row_from - phase // along) // down
            left = column * size_of - (arguments[A.left] + column_from - phase % along) // along
            height = (arguments[A.height] - row_from + down - 1) // down
            width = (arguments[A.width] - column_from + along - 1) // along
            length = size_of * count + overlap
            low = min(max(-left, 0), length)
            high = max(min(width - left, length), low)
            x_row = arguments[A.width] * lanes
            x = V.offset(V.floats(arguments[A.x]), row_from * x_row + (column_from + (left + low) * along) * lanes)
            image = tile // per_image // phases
            x = V.offset(x, V.two_steps(image, arguments[A.slices], arguments[A.x_image], arguments[A.x_slice]))
            for i in range(arguments[A.in_blocks]):
                plane = V.two_steps(i, arguments[A.channel_blocks], arguments[A.x_plane], arguments[A.x_block])
                x_block = V.offset(x, plane)
                columns(x_block, zeros, strip, top, height, down * x_row, along * lanes, low, high, length)
                rows(strip, V.offset(v, i * v_block + (tile - first) * lanes), count, v_point)
            tile += count

    return piece((INTEGERS, FLOATS, _N, _N), transform)


@cache
def _outer(target: Target, scheme: Scheme, window: int) -> Any:
    """The loops around these: the same function for every specialization."""
    V = vector_operations(target)
    lanes, points, transform = target.lanes, scheme.points, _transform(target, scheme)
    results, tall_results = scheme.outputs // window, scheme.tall // window
    product, gather, inverse = external("product", _PRODUCT), external("gather", _GATHER), external("inverse", _INVERSE)

    def kernel(arguments, chunk, scratch):
        part, block = chunk % arguments[A.parts], chunk // arguments[A.parts]
        tiles, tall = arguments[A.tiles], arguments[A.tall]
        in_blocks, v_block, v_point = arguments[A.in_blocks], arguments[A.v_block], arguments[A.v_point]
        begin = block * arguments[A.block_groups]
        end = min(begin + arguments[A.block_groups], arguments[A.groups])
        first = begin * (tiles - 1) + min(begin, tall)
        last = end * (tiles - 1) + min(end, tall)
        across = arguments[A.tile_columns]
        per_image = across * arguments[A.tile_rows]
        down, along = arguments[A.row_dilation], arguments[A.column_dilation]
        phases = down * along
        v, holds = V.offset(scratch, arguments[A.v_at]), V.note(scratch)
        if holds[0] != block + 1:
            holds[0] = block + 1
            transform(arguments, scratch, first, last)
        panel, out_blocks, few = arguments[A.panel], arguments[A.out_blocks], arguments[A.last_channels]
        m, m_point = V.offset(scratch, arguments[A.m_at]), arguments[A.m_point]
        half = V.offset(scratch, arguments[A.half_at])
        y_row, y_pixel = arguments[A.y_row], arguments[A.y_pixel]
        full = out_blocks // panel
        units = full + out_blocks % panel
        depth, w_first = arguments[A.w_blocks] * lanes * lanes, arguments[A.w_first] * lanes * lanes
        step = (lanes + end - begin - 1) // (end - begin)
        unit_last = min((part + 1) * arguments[A.part_panels], units)
        for unit in range(part * arguments[A.part_panels], unit_last, arguments[A.set_panels]):
            set_last = min(unit + arguments[A.set_panels], unit_last)
            start, _ = panel_at(unit, panel, full)
            for point in range(points):
                to = V.offset(m, point * m_point)
                for one in range(unit, set_last):
                    (out_block, size), wide = panel_at(one, panel, full), 1 if one < full else 0
                    u = V.offset(V.floats(arguments[A.w]), (out_block * points + point * size) * depth)
                    u = V.offset(u, w_first * size)
                    ahead = V.offset(u, size * depth)
                    source = V.offset(v, point * v_point)
                    result = V.offset(to, (out_block - start) * v_block)
                    for group in range(begin, end):
                        is_tall = 1 if group < tall else 0
                        product(source, u, result, ahead, step, in_blocks, few, v_block, is_tall, wide)
                        ahead = V.offset(ahead, size * in_blocks * lanes * step)
                        source = V.offset(source, (tiles - 1 + is_tall) * lanes)
                        result = V.offset(result, (tiles - 1 + is_tall) * lanes)
            for one in range(unit, set_last):
                out_block, size = panel_at(one, panel, full)
                valid = arguments[A.channels] - out_block * lanes
                gather(arguments, scratch, out_block * lanes, min(valid, size * lanes))
                for i in range(size):
                    source = V.offset(m, (out_block + i - start) * v_block)
                    head = V.offset(scratch, i * lanes)
                    image, inside = first // per_image // phases, first % per_image
                    row, column = inside // across * tall_results, inside % across * results
                    phase, begun, home, row_count, column_count = first // per_image % phases, 0, 0, 0, 0
                    for _ in range(first, last):
                        if begun == 0:
                            begun = 1
                            home = V.two_steps(image, arguments[A.slices], arguments[A.y_image], arguments[A.y_slice])
                            home += (out_block + i) * arguments[A.y_block]
                            home += phase // along * (y_row // down) + phase % along * lanes
                            row_count = (arguments[A.rows] - phase // along + down - 1) // down
                            column_count = (arguments[A.columns] - phase % along + along - 1) // along
                        if row < row_count:
                            place = home + row * y_row + column * y_pixel
                            inverse(source, arguments, head, half, place, min(row_count - row, tall_results),
                                    min(column_count - column, results), valid - i * lanes)  # fmt: skip
                        source = V.offset(source, lanes)
                        column += results
                        if column == across * results:
                            column = 0
                            row += tall_results
                            if row == arguments[A.tile_rows] * tall_results:
                                row, phase, begun = 0, phase + 1, 0
                                if phase == phases:
                                    phase, image = 0, image + 1

    return kernel


def _make_winograd(target: Target, outputs: int, taps: int, axes: int, **rest: Any) -> Linked:
    scheme, s = Scheme(outputs, taps, axes), Specialization(**rest)
    bodies = {
        "columns": (COLUMNS, strip_columns(scheme)),
        "rows": (ROWS, strip_rows(scheme)),
        "product": (_PRODUCT, picking(_product(target, s.merged), (s.tiles, s.vectors), s.uneven, s.tail)),
        "gather": (_GATHER, gather_body(s.operands, A.bias, OPERANDS, s.vectors)),
        "inverse": (_INVERSE, _inverse(scheme, s)),
    }
    return Linked(_outer(target, scheme, s.window), bodies)


FAMILIES = (
    Family(
        "winograd",
        WINOGRAD_ARGUMENTS,
        _make_winograd,
        "3x3, 5x5, 1x3 or 1x5 convolution of stride 1 by Winograd's algorithm, and the max pooling behind it.",
    ),
)
