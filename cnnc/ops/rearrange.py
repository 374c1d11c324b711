"""The layers that move values: what the language has of reshape, transpose, split, pad, shuffles and their like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cnnc.ir.layer import Argument, Site, builds, named_op
from cnnc.ir.op import InferenceError
from cnnc.ir.types import BATCH, Dim, TensorType, product
from cnnc.ops.checks import all_axes, integer, one_axis, show
from cnnc.ops.window import image
from cnnc.untrusted import FLOAT32


def _listed(value: Any, argument: str) -> tuple[Any, ...]:
    if not isinstance(value, tuple | list):
        raise InferenceError(f"{argument} is a list, not {value!r}", argument, "E0203")
    return tuple(value)


def _named_batch(x: TensorType, given: Sequence[Any], argument: str) -> tuple[Dim, ...]:
    """A shape as it is written: whole numbers and N."""
    for d in given:
        if d != BATCH and (isinstance(d, bool) or not isinstance(d, int)):
            raise InferenceError(f"{argument} is a list of whole numbers and {BATCH}, not {d!r}", argument, "E0203")
    return tuple(given)


def pad_pairs(value: Any, rank: int) -> tuple[tuple[int, int], ...]:
    """(before, after) for each axis of space: of a number, a list with one for each axis, or a list of pairs; negative ones cut.
    Raises `InferenceError`.
    """
    items = tuple(value) if isinstance(value, tuple | list) else (value,) * rank
    if len(items) != rank:
        raise InferenceError(f"padding has {len(items)} entries for {rank} axes of space", "padding", "E0203")
    pairs = tuple(tuple(p) if isinstance(p, tuple | list) else (p, p) for p in items)
    for pair in pairs:
        if len(pair) != 2 or any(isinstance(v, bool) or not isinstance(v, int) for v in pair):
            help = "write [[top, bottom], [left, right]]"
            raise InferenceError(
                f"padding is whole numbers or pairs of them, not {value!r}", "padding", "E0203", help=help
            )
    return pairs


_AXIS = Argument("axis", doc="a number, or a list")


@builds(
    "reshape",
    Argument("shape", doc="the sizes, of which one may be -1: what is left over; the batch is N"),
    shapes="[N, ...] -> [N, ...] of as many values",
    example="x -> reshape([N, 8, -1])",
)
def _reshape(site: Site) -> str:
    """the same values in another shape; -1 is what is left over"""
    x, shape = site.type, list(_named_batch(site.type, _listed(site.arguments["shape"], "shape"), "shape"))
    if shape.count(-1) > 1 or any(d != BATCH and d != -1 and int(d) < 1 for d in shape):
        help = "sizes are at least 1, and one of them may be -1: what is left over"
        raise InferenceError(f"shape cannot be {list(shape)}", "shape", "E0203", help=help)
    if -1 in shape:
        left = product(tuple(int(d) for d in x.shape if d != BATCH))
        known = product(tuple(int(d) for d in shape if d not in (BATCH, -1)))
        if BATCH in x.shape and BATCH not in shape and left == known:  # the batch would else be missing
            shape[shape.index(-1)] = BATCH
        elif left % known:
            raise InferenceError(f"{show(x)} cannot be reshaped to {list(shape)}", "shape", "E0204")
        else:
            shape[shape.index(-1)] = left // known
    if BATCH in shape[1:]:
        raise InferenceError(f"the batch stays axis 0, not as in {list(shape)}", "shape", "E0203")
    return site.add("reshape", site.operands, {"shape": shape})


@builds(
    "squeeze",
    Argument("axis", None, "a number, or a list; all of them unless told"),
    shapes="[N, C, 1, 1] -> [N, C]",
    example="x -> global_avgpool -> squeeze([2, 3])",
)
def _squeeze(site: Site) -> str:
    """without axes of one entry"""
    x, given = site.type, site.arguments["axis"]
    axes = tuple(i for i, d in enumerate(x.shape) if d == 1 and i) if given is None else all_axes(given, x.rank)
    for axis in axes:
        if x.shape[axis] != 1:
            what = f"axis {axis} has {x.shape[axis]} entries; an axis that is taken away has 1"
            raise InferenceError(what, "axis", "E0203")
    return site.add("reshape", site.operands, {"shape": [d for i, d in enumerate(x.shape) if i not in axes]})


@builds(
    "unsqueeze",
    Argument("axis", doc="where the new axis is"),
    shapes="[N, C, H, W] -> [N, 1, C, H, W]",
    example="x -> unsqueeze(1)",
)
def _unsqueeze(site: Site) -> str:
    """with a new axis of one entry"""
    shape = list(site.type.shape)
    axis = one_axis(site.arguments["axis"], len(shape) + 1)
    if axis == 0 and BATCH in shape:
        raise InferenceError("the batch stays axis 0", "axis", "E0203")
    return site.add("reshape", site.operands, {"shape": [*shape[:axis], 1, *shape[axis:]]})


@builds(
    "expand",
    Argument("shape", doc="the sizes; -1 for those that stay; the batch is N"),
    shapes="[N, C, 1, 1] -> [N, C, H, W]",
    example="x -> global_avgpool -> expand([N, 3, 4, 4])",
)
def _expand(site: Site) -> str:
    """axes of one entry repeated"""
    x = site.type
    shape = list(_named_batch(x, _listed(site.arguments["shape"], "shape"), "shape"))
    if len(shape) != x.rank:
        what = f"shape has {len(shape)} sizes for the {x.rank} axes of {show(x)}"
        raise InferenceError(what, "shape", "E0203", help="unsqueeze gives it more axes")
    shape = [x.shape[i] if d == -1 else d for i, d in enumerate(shape)]
    if any(d != BATCH and int(d) < 1 for d in shape) or (shape[0] == BATCH) != (x.shape[0] == BATCH):
        help = "sizes are at least 1, or -1 for those that stay; the batch is N before and after"
        raise InferenceError(f"shape cannot be {shape}", "shape", "E0203", help=help)
    return site.add("expand", site.operands, {"shape": shape})


@builds(
    "transpose",
    Argument("axes", doc="for each axis of the result, which one of x it is"),
    shapes="[N, C, H, W] -> [N, H, W, C] by [0, 2, 3, 1]",
    example="x -> transpose([0, 2, 3, 1])",
)
def _transpose(site: Site) -> str:
    """axes in another order"""
    return site.add("transpose", site.operands, {"axes": _listed(site.arguments["axes"], "axes")})


@builds(
    "split",
    Argument("sizes", doc="how many equal parts, or a list of their sizes"),
    Argument("axis", 1, "which is cut; the channels, unless told"),
    shapes="[N, A + B + ..., H, W] -> [N, A, H, W], [N, B, H, W], ...",
    example="concat(x -> split([1, 2]))",
)
def _split(site: Site) -> tuple[str, ...]:
    """several tensors, which are parts: `a, b = x -> split(2)`"""
    x, axis = site.type, one_axis(site.arguments["axis"], site.type.rank)
    size, given = x.shape[axis], site.arguments["sizes"]
    if not isinstance(size, int):
        raise InferenceError("split cannot cut the batch: it stays N to the end", "axis", "E0203")
    if isinstance(given, tuple | list):
        sizes = [integer(s, "sizes", 1) for s in given]
        if sum(sizes) != size:
            what = f"sizes {sizes} add up to {sum(sizes)}; axis {axis} has {size}"
            raise InferenceError(what, "sizes", "E0204")
    else:
        count = integer(given, "sizes", 1)
        if size % count:
            help = "give a list of sizes"
            raise InferenceError(
                f"{count} equal parts do not make the {size} of axis {axis}", "sizes", "E0204", help=help
            )
        sizes = [size // count] * count
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return tuple(
        site.part(i, "slice", site.operands, {"axis": axis, "start": start, "size": part})
        for i, (start, part) in enumerate(zip(starts, sizes, strict=True))
    )


@builds(
    "stack",
    Argument("axis", 1, "where the new axis is"),
    operands=None,
    shapes="[N, C, H, W] times k -> [N, k, C, H, W]",
    example="stack([x, x -> relu])",
)
def _stack(site: Site) -> str:
    """tensors of one shape joined along a new axis"""
    types = [site.builder.type(o) for o in site.operands]
    axis = one_axis(site.arguments["axis"], types[0].rank + 1)
    if axis == 0:
        raise InferenceError("the batch stays axis 0; stack along another", "axis", "E0203")
    for t in types:
        if t.shape != types[0].shape:
            raise InferenceError(f"stack cannot join {show(types[0])} and {show(t)}", "operands", "E0205")
    shape = [*types[0].shape[:axis], 1, *types[0].shape[axis:]]
    parts = [site.part(i, "reshape", [o], {"shape": shape}) for i, o in enumerate(site.operands)]
    return site.add("concat", parts, {"axis": axis})


@builds(
    "pad",
    Argument("padding", doc="pairs `[[top, bottom], [left, right]]`, or a number; negative ones cut"),
    Argument("value", 0, "of what is put there"),
    Argument("mode", "constant", '"constant", "reflect", "replicate" or "circular"'),
    shapes="[N, C, H, W] -> [N, C, top + H + bottom, left + W + right]",
    example='x -> pad([[1, 1], [2, 2]], mode="reflect")',
)
def _pad(site: Site) -> str:
    """more pixels around the image; fewer where numbers are negative"""
    x, mode, value = image(site.type, "pad"), site.arguments["mode"], site.arguments["value"]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InferenceError(f"value is a number, not {value!r}", "value", "E0203")
    if abs(value) > FLOAT32:
        raise InferenceError(f"value={value} is infinite in float32", "value", "E0404")
    padding = pad_pairs(site.arguments["padding"], x.rank - 2)
    if mode != "constant" and value != 0:
        raise InferenceError(f'value={value} belongs to mode="constant"', "value", "E0203")
    return site.add("pad", site.operands, {"padding": padding, "mode": mode, "value": float(value)})


@builds("flip", _AXIS, example="x -> flip(3)")
def _flip(site: Site) -> str:
    """axes the other way round"""
    return site.add("flip", site.operands, {"axis": all_axes(site.arguments["axis"], site.type.rank)})


@builds(
    "gather",
    Argument("indices", doc="a list of whole numbers; negative ones count from the end"),
    Argument("axis", 1, "of which they name entries; the channels, unless told"),
    shapes="[N, C, H, W] -> [N, len(indices), H, W]",
    example="x -> gather([2, 1, 0])",
)
def _gather(site: Site) -> str:
    """entries of an axis, in any order and any number"""
    axis, indices = one_axis(site.arguments["axis"], site.type.rank), _listed(site.arguments["indices"], "indices")
    return site.add("gather", site.operands, {"axis": axis, "indices": indices})


@builds(
    "repeat",
    Argument("repeats", doc="how many times, for each axis; 1 for the batch"),
    shapes="[N, C, H, W] -> [N, C * a, H * b, W * c] by [1, a, b, c]",
    example="x -> repeat([1, 1, 2, 2])",
)
def _repeat(site: Site) -> str:
    """all of it several times, side by side"""
    return site.add("repeat", site.operands, {"repeats": _listed(site.arguments["repeats"], "repeats")})


named_op(
    "channel_shuffle",
    Argument("groups", doc="groups of channels that take turns"),
    example="x -> channel_shuffle(3)",
    doc="channels in another order: the first of each group, the second of each, ...",
)
_FACTOR = Argument("factor", doc="pixels along each axis for one")
named_op(
    "pixel_shuffle",
    _FACTOR,
    shapes="[N, C * factor^2, H, W] -> [N, C, factor * H, factor * W]",
    example="x -> conv(12, 1) -> pixel_shuffle(2)",
    doc="channels to pixels: images `factor` times as high and wide",
)
named_op(
    "pixel_unshuffle",
    _FACTOR,
    shapes="[N, C, factor * H, factor * W] -> [N, C * factor^2, H, W]",
    example="x -> pixel_unshuffle(2)",
    doc="pixels to channels, the other way round",
)
