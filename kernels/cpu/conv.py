"""Direct convolution with a register tile: forward, data gradients, and their packed weights.

One kernel family covers every kernel size, stride, dilation and padding, because it knows a tap only as an offset into
its input. Rows that need padding or de-interleaving are first copied into the worker's scratch. `conv_shapes.py`
computes the arguments and says what they mean.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from llvmlite import ir
from numba import types

from . import Family, conv_matrix
from .conv_arguments import DIRECT_ARGUMENTS
from .emit import F32, Emitter, i64
from .target import Target
from .vector import FLOATS, INTEGERS, Linked, emitted, external, indices
from .vector import vectors as vector_operations

# Weights come from the second level cache; asking for them this many input channels ahead is worth 2%.
AHEAD = 16
LINE_FLOATS = 16
A = indices(DIRECT_ARGUMENTS)
OPERANDS = len(DIRECT_ARGUMENTS)


Body = Callable[..., None]
_N = types.int64
_GATHER = (INTEGERS, FLOATS, _N, _N)
# x, taps, entries, w, place, arguments, scratch, first, last, valid
_TILE = (FLOATS, INTEGERS, _N, FLOATS, _N, INTEGERS, FLOATS, _N, _N, _N)


def _pixel(target: Target, form: str) -> tuple[int, int]:
    """(floats of a pixel, input channels that one entry of the tap table stands for) of the input's form.

    blocked: a block of channels, each of which meets every output channel. matrix, scattered: blocks, copied tile by
    tile. flat: blocks, neighboring pixels read where they are. plain: one channel.
    """
    return (1, 1) if form == "plain" else (target.lanes, target.lanes)


def _tile(target: Target, pixels: int, across: int, size: int, panel: int, form: str, masked: bool, tree: Any,
          operands: tuple[str, ...]) -> Body:  # fmt: skip
    """A body: pixels x (size * lanes) outputs, accumulated over `count` entries: of the tap table, or of copied pixels,
    `across` to an entry.

    One `getelementptr` per loop level: where the index is computed as a whole in the innermost loop, LLVM 22 spills
    accumulators. The first entries start from the bias, later ones from y. `place` is the tile's offset in y and in
    every operand of its shape. `scratch` begins with the panel's channel vectors: the bias, then those of the operands.
    With `last` the expression is applied; where `masked`, only the first `valid` channels of the panel keep a value:
    zero weights make no zero of an infinite input.
    """
    lanes = target.lanes
    step, depth = _pixel(target, form)
    # Two steps in one body make LLVM hold both steps' weights: only where there are registers for them.
    unroll = min(2 if pixels * size + 4 * size + 8 < target.registers else 1, depth)

    def body(e: Emitter, x: Any, taps: Any, count: Any, w: Any, place: Any, arguments: Any, scratch: Any, first: Any, last: Any,
             valid: Any) -> None:  # fmt: skip
        b = e.b

        def argument(index: int) -> Any:
            return b.load(b.gep(arguments, [i64(index)]), align=8)

        def tensor(index: int) -> Any:
            """The tile's first output in the tensor of that argument."""
            return b.gep(b.inttoptr(argument(index), F32.as_pointer()), [place])

        y, y_pixel, y_block = tensor(A.y), argument(A.y_pixel), argument(A.y_block)

        def places(pointer: Any) -> list[list[Any]]:
            """[pixel][vector] pointers of the outputs, or of an operand of the same shape."""
            heads = [pointer]
            for _ in range(size - 1):
                heads.append(b.gep(heads[-1], [y_block]))
            out = [heads]
            if form == "scattered":
                found = [b.load(b.gep(taps, [i64(p)]), align=8) for p in range(pixels)]
                return [[b.gep(head, [at]) for head in heads] for at in found]
            for _ in range(pixels - 1):
                heads = [b.gep(head, [y_pixel]) for head in heads]
                out.append(heads)
            return out

        fresh, resume, begin = (b.append_basic_block(name) for name in ("fresh", "resume", "begin"))
        b.cbranch(b.icmp_signed("!=", first, i64(0)), fresh, resume)
        b.position_at_end(fresh)
        bias = [e.load(scratch, lanes * v) for v in range(size)]
        b.branch(begin)
        b.position_at_end(resume)
        partial = [e.load(place) for line in places(y) for place in line]
        b.branch(begin)
        b.position_at_end(begin)
        sums = []
        for i, value in enumerate(partial):
            phi = b.phi(e.type)
            phi.add_incoming(bias[i % size], fresh)
            phi.add_incoming(value, resume)
            sums.append(phi)

        def over_channels(_: Any, carried: list[Any]) -> list[Any]:
            xt, wt, *acc = carried
            for line in range(0, size * lanes, LINE_FLOATS):
                e.prefetch(e.at(wt, AHEAD * size * lanes + line))
            for k in range(unroll):
                ws = [e.load(wt, lanes * (k * size + v)) for v in range(size)]
                for p in range(pixels):
                    xv = e.broadcast(xt, p * step + k)
                    for v in range(size):
                        acc[p * size + v] = e.fma(xv, ws[v], acc[p * size + v])
            return [e.at(xt, unroll), e.at(wt, unroll * size * lanes), *acc]

        # of the last block only the channels that there are
        ending = b.select(b.icmp_signed("!=", last, i64(0)), b.sub(count, argument(A.tap_count)), count)
        few = b.sdiv(argument(A.last_channels), i64(unroll))

        copied = form in ("matrix", "scattered")

        def over_taps(t: Any, carried: list[Any]) -> list[Any]:
            if copied:
                xt, wt, *acc = carried
                following = [e.at(xt, across * step)]
            else:
                wt, *acc = carried
                xt, following = b.gep(x, [b.load(b.gep(taps, [t]), align=8)]), []
            if form == "flat":  # the next tile's pixels: they are far apart, so that no processor foresees them
                for line in range(0, pixels * lanes, LINE_FLOATS):
                    e.prefetch(e.at(xt, pixels * lanes + line))
            if depth == unroll:
                _, _, *out = over_channels(None, [xt, wt, *acc])
            else:
                steps = b.select(b.icmp_signed("<", t, ending), i64(depth // unroll), few)
                _, _, *out = e.loop(steps, [xt, wt, *acc], over_channels)
            return [*following, e.at(wt, depth * size * lanes), *out]

        before, run, done = b.block, b.append_basic_block("run"), b.append_basic_block("finish")
        b.cbranch(b.icmp_signed(">", count, i64(0)), run, done)
        b.position_at_end(run)
        out = e.loop(count, [*([x] if copied else []), w, *sums], over_taps)[-len(sums) :]
        after = b.block
        b.branch(done)
        b.position_at_end(done)
        merged = []
        for old, new in zip(sums, out, strict=True):
            phi = b.phi(e.type)
            phi.add_incoming(old, before)
            phi.add_incoming(new, after)
            merged.append(phi)

        def write(values: list[Any]) -> None:
            for p, line in enumerate(places(y)):
                for v, place in enumerate(line):
                    e.store(values[p * size + v], place)

        if tree is None and not masked:
            write(merged)
            return
        finish, keep, end = (b.append_basic_block(name) for name in ("epilogue", "keep", "end"))
        b.cbranch(b.icmp_signed("!=", last, i64(0)), finish, keep)
        b.position_at_end(keep)
        write(merged)
        b.branch(end)
        b.position_at_end(finish)
        masks = [e.first_lanes(b.sub(valid, i64(lanes * v))) for v in range(size)] if masked else []
        where = [places(tensor(OPERANDS + i)) if kind == "full" else None for i, kind in enumerate(operands)]
        for p, line in enumerate(places(y)):
            for v, place in enumerate(line):
                variables = {"y": merged[p * size + v]}
                for i, full in enumerate(where):
                    variables[f"a{i}"] = e.load(full[p][v]) if full else e.load(scratch, lanes * (panel * (i + 1) + v))
                value = variables["y"] if tree is None else e.expression(tree, variables)
                e.store(e.select(masks[v], value, e.const(0)) if masked else value, place)
        b.branch(end)
        b.position_at_end(end)

    return body


def _tiles(
    target: Target,
    pixels: int,
    panel: int,
    uneven: bool,
    tail: bool,
    form: str,
    masked: bool,
    tree: Any,
    operands: tuple[str, ...],
) -> Body:
    """A body that picks the tile: `tall` for all pixels, else one less; `wide` for a panel, else one block."""

    def body(e: Emitter, *values: Any) -> None:
        *rest, tall, wide = values
        b = e.b

        def choose(flag: Any, both: bool, yes: Callable[[], None], no: Callable[[], None]) -> None:
            if not both:
                yes()
                return
            with b.if_else(b.icmp_signed("!=", flag, i64(0))) as (then, otherwise):
                with then:
                    yes()
                with otherwise:
                    no()

        def tile(columns: int, size: int) -> None:
            _tile(target, columns, pixels, size, panel, form, masked, tree, operands)(e, *rest)

        def columns(count: int) -> None:
            choose(wide, tail, lambda: tile(count, panel), lambda: tile(count, 1))

        choose(tall, uneven, lambda: columns(pixels), lambda: columns(pixels - 1))

    return body


def _copy_pixels(target: Target, plain: bool) -> tuple[Any, Any]:
    """Intrinsics over pixels of a row in scratch: clear(to, count), copy(from, to, count, floats between source
    pixels).
    """
    step = 1 if plain else target.lanes

    def each(e: Emitter, count: Any, body: Any) -> None:
        with e.b.if_then(e.b.icmp_signed(">", count, i64(0))):
            e.loop(count, [], body)

    def clear(e: Emitter, to: Any, count: Any) -> None:
        def pixel(i: Any, _: Any) -> list[Any]:
            place = e.at(to, e.b.mul(i, i64(step)))
            if plain:
                e.b.store(ir.Constant(F32, 0.0), place, align=4)
            else:
                e.store(e.const(0), place)
            return []

        each(e, count, pixel)

    def copy(e: Emitter, source: Any, to: Any, count: Any, stride: Any) -> None:
        def pixel(i: Any, _: Any) -> list[Any]:
            origin, place = e.at(source, e.b.mul(i, stride)), e.at(to, e.b.mul(i, i64(step)))
            if plain:
                e.b.store(e.b.load(origin, align=4), place, align=4)
            else:
                e.store(e.load(origin), place)
            return []

        each(e, count, pixel)

    n = types.int64
    return emitted(target, None, (FLOATS, n), clear), emitted(target, None, (FLOATS, FLOATS, n, n), copy)


def _gather(target: Target, panel: int, operands: tuple[str, ...]) -> Body:
    """A body that copies the panel's part of the bias and of each per-channel operand into scratch.

    Zeros stand past `count` channels, and for an absent bias.
    """

    def body(e: Emitter, arguments: Any, scratch: Any, channel: Any, count: Any) -> None:
        b = e.b
        for position, index in enumerate((A.bias, *(OPERANDS + i for i in range(len(operands))))):
            if position and operands[position - 1] != "channel":
                continue
            address = b.load(b.gep(arguments, [i64(index)]), align=8)
            present = b.select(b.icmp_signed("==", address, i64(0)), i64(0), count)
            source = b.gep(b.inttoptr(address, F32.as_pointer()), [channel])
            for v in range(panel):
                mask = e.first_lanes(b.sub(present, i64(e.lanes * v)))
                e.store(e.masked_load(e.at(source, e.lanes * v), mask), scratch, e.lanes * (panel * position + v))

    return body


@cache
def _outer(target: Target, form: str) -> Any:
    """The loops around the tile: the same function for every specialization."""
    V = vector_operations(target)
    lanes = target.lanes
    step, depth = _pixel(target, form)
    square = depth * lanes
    clear, copy = _copy_pixels(target, form == "plain")
    gather = external("gather", _GATHER)
    tile = external("tile", (*_TILE, _N, _N))

    def kernel(arguments, chunk, scratch):
        panel = arguments[A.panel]
        in_blocks, tap_count, out_blocks = arguments[A.in_blocks], arguments[A.tap_count], arguments[A.out_blocks]
        panel_chunks, groups, row_blocks = arguments[A.panel_chunks], arguments[A.groups], arguments[A.row_blocks]
        part = chunk % panel_chunks
        group = chunk // panel_chunks % groups
        row = chunk // panel_chunks // groups % row_blocks * arguments[A.block_rows]
        image = chunk // panel_chunks // groups // row_blocks
        row_end = min(row + arguments[A.block_rows], arguments[A.rows])
        x = V.offset(V.floats(arguments[A.x]), image * arguments[A.x_image] + group * in_blocks * arguments[A.x_block])
        if arguments[A.pack_rows] > 0:
            rows_x = V.offset(scratch, arguments[A.head])
            pixels_across, pixel_step = arguments[A.pack_width], arguments[A.pixel_step]
            to = rows_x
            for line in range(in_blocks * arguments[A.copies] * arguments[A.pack_rows]):
                i = (
                    line % arguments[A.pack_rows] * arguments[A.row_step]
                    + row * arguments[A.row_stride]
                    + arguments[A.row_first]
                )
                copied = line // arguments[A.pack_rows]
                first_column = arguments[A.column_first] + copied % arguments[A.copies] * arguments[A.copy_step]
                low = min(max((pixel_step - 1 - first_column) // pixel_step, 0), pixels_across)
                high = max(
                    min((arguments[A.in_width] - first_column + pixel_step - 1) // pixel_step, pixels_across), low
                )
                if i < 0 or i >= arguments[A.height]:
                    low, high = pixels_across, pixels_across
                clear(to, low)
                origin = copied // arguments[A.copies] * arguments[A.x_block] + i * arguments[A.x_row]
                origin += (first_column + low * pixel_step) * step
                copy(V.offset(x, origin), V.offset(to, low * step), high - low, pixel_step * step)
                clear(V.offset(to, high * step), pixels_across - high)
                to = V.offset(to, pixels_across * step)
        else:
            rows_x = V.offset(x, row * arguments[A.out_row])
        full = out_blocks // panel
        units = full + out_blocks % panel
        weights = V.offset(V.floats(arguments[A.w]), group * out_blocks * in_blocks * tap_count * square)
        for unit in range(part * arguments[A.chunk_panels], min((part + 1) * arguments[A.chunk_panels], units)):
            size = panel if unit < full else 1
            block = unit * panel if unit < full else full * panel + unit - full
            channel = (group * out_blocks + block) * lanes
            valid = arguments[A.channels] - channel
            gather(arguments, scratch, channel, min(valid, size * lanes))
            w = V.offset(weights, block * in_blocks * tap_count * square)
            for begin in range(0, in_blocks, arguments[A.depth_blocks]):
                entries = min(arguments[A.depth_blocks], in_blocks - begin) * tap_count
                taps = V.integer_offset(V.integers(arguments[A.taps]), begin * tap_count)
                first = 1 if begin == 0 else 0
                last = 1 if begin + arguments[A.depth_blocks] >= in_blocks else 0
                for r in range(row, row_end):
                    tile_x = V.offset(rows_x, (r - row) * arguments[A.out_row])
                    place = (
                        image * arguments[A.y_image]
                        + (group * out_blocks + block) * arguments[A.y_block]
                        + r * arguments[A.y_row]
                    )
                    for t in range(arguments[A.tiles]):
                        tall = 1 if t < arguments[A.tall] else 0
                        wide = 1 if size == panel else 0
                        tile(tile_x, taps, entries, w, place, arguments, scratch, first, last, valid, tall, wide)
                        columns = arguments[A.pixels] - 1 + tall
                        tile_x = V.offset(tile_x, columns * step)
                        place += columns * arguments[A.y_pixel]
                w = V.offset(w, entries * square * size)

    return kernel


def _make_direct(
    target: Target,
    pixels: int,
    vectors: int,
    uneven: bool,
    tail: bool,
    form: str,
    masked: bool,
    expression: Any,
    operands: tuple[str, ...],
) -> Linked:
    bodies = {
        "gather": (_GATHER, _gather(target, vectors, operands)),
        "tile": ((*_TILE, _N, _N), _tiles(target, pixels, vectors, uneven, tail, form, masked, expression, operands)),
    }
    if form in ("matrix", "scattered", "flat"):
        return Linked(conv_matrix.outer(target, pixels, form, _GATHER, (*_TILE, _N, _N)), bodies)
    return Linked(_outer(target, form), bodies)


FAMILIES = (
    Family(
        "conv_direct", DIRECT_ARGUMENTS, _make_direct, "Direct convolution on blocked or plain input, with an epilogue."
    ),
)
