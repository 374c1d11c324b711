"""Direct convolution with a register tile: forward, data gradients, and their packed weights.

One kernel family covers every kernel size, stride, dilation and padding, because it knows a tap only as an offset into
its input. This module has the register tile; the loops around it are in `rows.py`, `matrix.py`,
`flat.py` and `spread.py`. `plan.py` computes the arguments and says what they mean.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types

from .. import Family
from ..code.channels import gather_body
from ..code.emit import F32, Emitter, i64
from ..code.partial import in_parts, most_terms, own_sums, room_for
from ..code.vector import FLOATS, INTEGERS, Linked, indices
from ..target import Target
from . import flat, matrix, rows, spread
from .arguments import DIRECT_ARGUMENTS
from .rows import bands_of, pixel_of

# Weights come from the second level cache; asking for them this many input channels ahead is worth 2%.
AHEAD = 16
LINE_FLOATS = 16
A = indices(DIRECT_ARGUMENTS)
OPERANDS = len(DIRECT_ARGUMENTS)


Body = Callable[..., None]
_N = types.int64
GATHER = (INTEGERS, FLOATS, _N, _N)
# x, taps, entries, w, ahead, pace, reach, place, arguments, scratch, first, last, valid, tall, wide
TILE = (FLOATS, INTEGERS, _N, FLOATS, FLOATS, _N, _N, _N, INTEGERS, FLOATS, _N, _N, _N, _N, _N)


def _tile(target: Target, pixels: int, across: int, size: int, panel: int, form: str, apart: int, masked: bool, tree: Any,
          operands: tuple[str, ...], near: int, merged: bool) -> Body:  # fmt: skip
    """A body: pixels x (size * lanes) outputs, accumulated over `count` entries: of the tap table, or of copied pixels,
    `across` to an entry. Neighboring outputs meet pixels that lie `apart`.

    One `getelementptr` per loop level: where the index is computed as a whole in the innermost loop, LLVM 22 spills
    accumulators. The first entries start from the bias, later ones are added to y. `place` is the tile's offset in y and in
    every operand of its shape. `scratch` begins with the panel's channel vectors: the bias, then those of the operands.
    An entry of "spread" pixels stands for `near` taps that follow each other in a row.
    An entry of a "banded" or "shifted" tap table says besides how many channels it stands for. Of "shifted" outputs, which are
    no whole block, the first `last` lanes are stored.
    Weights that later tiles read are asked for from `ahead` on, `pace` floats for each input channel, and pixels that
    lie `reach` floats from those of this tile. With `last` the expression is applied; where `masked`, only the first
    `valid` channels of the panel keep a value: zero weights make no zero of an infinite input. Nor do those between channels
    of different groups, which bands of channels have, and weights of groups that were `merged`: where sums are not finite,
    products with such weights are left out.
    """
    lanes = target.lanes
    step, depth = pixel_of(target, form)
    step *= apart
    banded, shifted, flat = bands_of(form)
    # Two steps in one body make LLVM hold both steps' weights: only where there are registers for them.
    unroll = min(2 if pixels * size + 4 * size + 8 < target.registers else 1, depth)

    def body(e: Emitter, x: Any, taps: Any, count: Any, w: Any, ahead: Any, pace: Any, reach: Any, place: Any, arguments: Any,
             scratch: Any, first: Any, last: Any, valid: Any) -> None:  # fmt: skip
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

        # Operands of the expression come from afar, and are wanted all at once when the sums are done.
        where = [places(tensor(OPERANDS + i)) if kind == "full" else None for i, kind in enumerate(operands)]
        for spot in [spot for operand in where if operand for line in operand for spot in line]:
            e.prefetch(spot)
        fresh = b.icmp_signed("!=", first, i64(0))

        def over_channels(_: Any, carried: list[Any]) -> list[Any]:
            xt, wt, later, *acc = carried
            for line in range(0, size * lanes, LINE_FLOATS):
                e.prefetch(e.at(wt, AHEAD * size * lanes + line))
            for k in range(unroll):
                e.prefetch(later, 2)
                later = b.gep(later, [pace])
                ws = [e.load(wt, lanes * (k * size + v)) for v in range(size)]
                for p in range(pixels):
                    xv = e.broadcast(xt, p * step + k)
                    for v in range(size):
                        acc[p * size + v] = e.fma(xv, ws[v], acc[p * size + v])
            return [e.at(xt, unroll), e.at(wt, unroll * size * lanes), later, *acc]

        # of the last block only the channels that there are
        ending = b.select(b.icmp_signed("!=", last, i64(0)), b.sub(count, argument(A.tap_count)), count)
        few = b.sdiv(argument(A.last_channels), i64(unroll))

        copied = form in ("matrix", "scattered")

        def over_taps(t: Any, carried: list[Any]) -> list[Any]:
            if copied:
                xt, wt, later, *acc = carried
                following = [e.at(xt, across * step)]
            else:
                wt, later, *acc = carried
                entry = b.gep(taps, [b.shl(t, i64(1)) if banded else t])
                xt, following = b.gep(x, [b.load(entry, align=8)]), []
            if flat:  # an entry's pixels are far from the last one's, so that no processor foresees them
                there = b.gep(xt, [reach])
                for line in sorted({p * step // LINE_FLOATS for p in range(pixels)}):
                    e.prefetch(e.at(there, line * LINE_FLOATS))
            if banded:
                steps = b.udiv(b.load(b.gep(entry, [i64(1)]), align=8), i64(unroll))
                _, wt, later, *out = e.loop(steps, [xt, wt, later, *acc], over_channels)
                return [wt, later, *out]
            if form == "spread":  # lanes meet the input's lanes, and a pixel all outputs that it is near to
                ws = [e.load(wt, lanes * j) for j in range(near)]
                for q in range(pixels + near - 1):
                    xv = e.load(xt, q * step)
                    for p, w in ((q - j, w) for j, w in enumerate(ws) if 0 <= q - j < pixels):
                        acc[p] = e.fma(xv, w, acc[p])
                return [e.at(wt, near * lanes), later, *acc]
            if depth == unroll:
                _, _, later, *out = over_channels(None, [xt, wt, later, *acc])
            else:
                steps = b.select(b.icmp_signed("<", t, ending), i64(depth // unroll), few)
                _, _, later, *out = e.loop(steps, [xt, wt, later, *acc], over_channels)
            return [*following, e.at(wt, depth * size * lanes), later, *out]

        def own(done: Any, length: Any, carried: list[Any]) -> list[Any]:
            """The sums of `length` entries after the first `done`, without products between groups, pixel by pixel."""
            *line, begin_w, _ = carried
            room, bias = room_for(e, pixels * size), b.and_(fresh, b.icmp_signed("==", done, i64(0)))
            start = [e.select(bias, e.load(scratch, lanes * v), e.const(0)) for v in range(size)]

            def over_pixels(p: Any, _: list[Any]) -> list[Any]:
                moved = b.mul(p, i64(step))

                def over_entries(t: Any, carried: list[Any]) -> list[Any]:
                    wt, *acc = carried
                    t, channels = b.add(done, t), i64(depth)
                    if copied:
                        xt = b.gep(line[0], [b.mul(b.sub(t, done), i64(across * step))])
                    else:
                        entry = b.gep(taps, [b.shl(t, i64(1)) if banded else t])
                        xt = b.gep(x, [b.load(entry, align=8)])
                    if banded:
                        channels = b.load(b.gep(entry, [i64(1)]), align=8)
                    elif depth > 1:
                        channels = b.select(b.icmp_signed("<", t, ending), channels, b.mul(few, i64(unroll)))
                    acc = own_sums(e, acc, b.gep(xt, [moved]), wt, channels, size)
                    return [b.gep(wt, [b.mul(channels if banded else i64(depth), i64(size * lanes))]), *acc]

                _, *acc = e.loop(length, [begin_w, *start], over_entries)
                for v, value in enumerate(acc):
                    e.store(value, room, b.mul(b.add(b.mul(p, i64(size)), i64(v)), i64(lanes)))
                return []

            e.loop(i64(pixels), [], over_pixels)
            return [e.load(room, i * lanes) for i in range(pixels * size)]

        def lie() -> tuple[Any, Any, Any, Any]:
            """Of shifted outputs, which lanes lie in the block where they begin; those that are stored of these, and of the
            next block's; how far that is.
            """
            within = e.first_lanes(b.sub(i64(lanes), b.and_(place, i64(lanes - 1))))
            kept = e.first_lanes(last)
            return within, b.and_(kept, within), b.and_(kept, b.not_(within)), b.sub(y_block, i64(lanes))

        def load(at: Any) -> Any:
            if not shifted:
                return e.load(at)
            within, here, there, beyond = lie()
            return e.select(within, e.masked_load(at, here), e.masked_load(b.gep(at, [beyond]), there))

        def store(value: Any, at: Any) -> None:
            if not shifted:
                e.store(value, at)
                return
            _, here, there, beyond = lie()
            e.masked_store(value, at, here)
            e.masked_store(value, b.gep(at, [beyond]), there)

        def read() -> list[Any]:
            return [load(at) for line in places(y) for at in line]

        def write(values: list[Any]) -> None:
            for value, at in zip(values, [at for line in places(y) for at in line], strict=True):
                store(value, at)

        start = [e.select(fresh, e.load(scratch, lanes * v), e.const(0)) for v in range(size)] * pixels
        carried = [*([x] if copied else []), w, ahead]
        careful = own if banded or merged else None  # an infinite input makes all vectors of its pixel infinite or NaN
        sums = in_parts(
            e, count, most_terms(depth * near), fresh, carried, start, over_taps, read, write, careful, size
        )
        if tree is None and not masked and not shifted:
            write(sums)
            return
        finish, keep, end = (b.append_basic_block(name) for name in ("epilogue", "keep", "end"))
        b.cbranch(b.icmp_signed("!=", last, i64(0)), finish, keep)
        b.position_at_end(keep)
        write(sums)
        b.branch(end)
        b.position_at_end(finish)
        masks = [e.first_lanes(b.sub(valid, i64(lanes * v))) for v in range(size)] if masked else []
        for p, line in enumerate(places(y)):
            for v, at in enumerate(line):
                variables = {"y": sums[p * size + v]}
                for i, full in enumerate(where):
                    variables[f"a{i}"] = load(full[p][v]) if full else e.load(scratch, lanes * (panel * (i + 1) + v))
                value = variables["y"] if tree is None else e.expression(tree, variables)
                store(e.select(masks[v], value, e.const(0)) if masked else value, at)
        b.branch(end)
        b.position_at_end(end)

    return body


def tiles_body(
    target: Target,
    pixels: int,
    panel: int,
    uneven: bool,
    tail: bool,
    form: str,
    apart: int,
    masked: bool,
    tree: Any,
    operands: tuple[str, ...],
    near: int = 1,
    merged: bool = False,
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
            _tile(target, columns, pixels, size, panel, form, apart, masked, tree, operands, near, merged)(e, *rest)

        def columns(count: int) -> None:
            choose(wide, tail, lambda: tile(count, panel), lambda: tile(count, 1))

        choose(tall, uneven, lambda: columns(pixels), lambda: columns(pixels - 1))

    return body


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
    apart: int = 1,
    near: int = 1,
    merged: bool = False,
) -> Linked:
    bodies = {
        "gather": (GATHER, gather_body(operands, A.bias, OPERANDS, vectors)),
        "tile": (
            TILE,
            tiles_body(target, pixels, vectors, uneven, tail, form, apart, masked, expression, operands, near, merged),
        ),
    }
    if form == "flat":
        return Linked(flat.outer(target, pixels, apart, GATHER, TILE), bodies)
    if form in ("matrix", "scattered"):
        return Linked(matrix.outer(target, pixels, form, GATHER, TILE), bodies)
    if form == "spread":
        return Linked(spread.outer(target, GATHER, TILE), bodies)
    return Linked(rows.outer(target, form, GATHER, TILE), bodies)


FAMILIES = (
    Family(
        "conv_direct", DIRECT_ARGUMENTS, _make_direct, "Direct convolution on blocked or plain input, with an epilogue."
    ),
)
