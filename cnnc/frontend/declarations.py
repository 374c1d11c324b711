"""What a model says of its tensors: `input` with its settings, `expect`, and the types in both."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, NoReturn

from cnnc.diagnostics import Origin
from cnnc.frontend.elaboration import Failure, Frame
from cnnc.frontend.elementwise import check_float32
from cnnc.frontend.expressions import evaluate
from cnnc.frontend.inputs import CHANNELS, Check, Preprocess, too_large
from cnnc.frontend.layers import DIMENSION, own_parameter
from cnnc.frontend.text import syntax as s
from cnnc.frontend.values import MISSING, Batch, Tensor, Value, kind, show, shown_type
from cnnc.ir.layer import ParameterSpec
from cnnc.ir.op import InferenceError
from cnnc.ir.start import STARTS, Start, check, start
from cnnc.ir.types import BATCH, DTYPES, ELEMENTS, Dim, TensorType, activation

AXES_LIMIT = 8


def declare(node: s.Input, frame: Frame) -> Value:
    """Add an input."""
    name, elaboration = node.name.name, frame.elaboration
    if not frame.in_model:
        what = "an input belongs into a model, not into a block"
        frame.fail(node.name, "E0320", what, help="give the block a parameter instead")
    if name in elaboration.inputs:
        frame.fail(node.name, "E0303", f"there are two inputs {name}")
    type = read_type(node.type, frame)
    if type.shape[0] != BATCH or BATCH in type.shape[1:]:
        what = "the first size of an input, and no other, is the batch N"
        frame.fail(node.type.dims[0], "E0320", what, help=f"write {node.type.dtype.name}[N, ...]")
    if type.dtype != "f32":
        frame.fail(node.type.dtype, "E0320", f"an input holds f32, not {type.dtype}")
    if len(type.shape) < 2:
        help = "write f32[N, features] or f32[N, channels, height, width]"
        frame.fail(node.type, "E0320", "an input has features besides the batch", help=help)
    frame.names[name] = Tensor(elaboration.builder.input(name, type, Origin(node.span)), type)
    elaboration.inputs[name] = _settings(node, type, frame)
    return MISSING


def _settings(node: s.Input, type: TensorType, frame: Frame) -> Preprocess:
    """The settings of an input, checked. Each wrong one is reported; the input itself is still good."""
    channels = type.shape[1]
    values: dict[str, Any] = {}
    if type.rank == 4 and isinstance(channels, int) and channels in CHANNELS:
        values["channels"] = CHANNELS[channels][0]
    seen: set[str] = set()
    for setting in node.settings:
        try:
            values[setting.name.name] = _setting(setting, seen, type, frame)
        except Failure:
            continue
    result = Preprocess(**values)
    wrong = too_large(result)
    if wrong is not None:
        crop = next(x.value for x in node.settings if x.name.name == "crop")
        frame.report(crop, "E0321", wrong)
    return result


def _setting(node: s.Setting, seen: set[str], type: TensorType, frame: Frame) -> Any:
    """The value of one setting, whose name is not among those `seen` before it."""
    name = node.name.name
    names = [f.name for f in fields(Preprocess)]
    if name not in names:
        frame.unknown(node.name, "E0307", "an input has no setting", name, names, "it has")
    if name in seen:
        frame.fail(node.name, "E0303", f"{name} is set twice")
    seen.add(name)
    if type.rank != 4 and name != "labels":
        what = f"{name} is for images, the input is {shown_type(type)}"
        frame.fail(node.name, "E0321", what, help="an image is f32[N, channels, height, width]")

    def fail(message: str, help: str | None) -> NoReturn:
        frame.fail(node.value, "E0321", message, f"the input is {shown_type(type)}", help=help)

    return Check(type, fail)(name, evaluate(node.value, frame))


def parameter(node: s.Param, frame: Frame) -> Value:
    """Add a trained parameter, which is a tensor of the block."""
    type = read_type(node.type, frame)
    if BATCH in type.shape:
        what = "a parameter has no batch: it is the same for all images"
        frame.fail(node.type.dims[type.shape.index(BATCH)], "E0320", what)
    if type.dtype != "f32":
        frame.fail(node.type.dtype, "E0320", f"a parameter holds f32, not {type.dtype}")
    value = evaluate(node.start, frame)
    if isinstance(value, int | float) and not isinstance(value, bool):
        check_float32(value, node.start, frame)
        value = start("constant", value=value)
    if not isinstance(value, Start):
        what = f"a parameter starts as a number or as one of {', '.join(STARTS)}, not as {kind(value)}"
        frame.fail(node.start, "E0203", what)
    try:
        check(value, type.sizes)
    except InferenceError as e:
        frame.fail(node.start, e.code, e.message, help=e.help)
    spec = ParameterSpec(type.sizes, type.layout, value)
    frame.names[node.name.name] = Tensor(own_parameter(node.name, spec, frame), spec.type)
    return MISSING


def expect(node: s.Expect, frame: Frame) -> Value:
    """Fail where a tensor is not of the type that is said."""
    value, name = evaluate(node.name, frame), node.name.name
    if not isinstance(value, Tensor):
        frame.fail(node.name, "E0308", f"{name} is {kind(value)}, not a tensor")
    wanted, found = read_type(node.type, frame), value.type
    if wanted.dtype == found.dtype and wanted.shape == found.shape:
        return MISSING
    where: s.Type | s.Expression = node.type
    if len(wanted.shape) != len(found.shape):
        what = f"rank {len(found.shape)}, not {len(wanted.shape)}"
    else:
        axes = [i for i, (a, b) in enumerate(zip(wanted.shape, found.shape, strict=True)) if a != b]
        what = ", ".join(f"{found.shape[i]} on axis {i}, not {wanted.shape[i]}" for i in axes) or found.dtype
        where = node.type.dims[axes[0]] if len(axes) == 1 else node.type
    notes = f"expected {shown_type(wanted)}", f"found    {shown_type(found)}"
    frame.fail(where, "E0209", f"{name} has {what}", *notes, help=f"write: expect {name}: {shown_type(found)}")


def read_type(node: s.Type, frame: Frame) -> TensorType:
    """A type; its dimensions are positive whole numbers, N, or an expression that is the batch."""
    dtype = node.dtype.name
    if dtype not in DTYPES:
        frame.unknown(node.dtype, "E0319", "unknown element type", dtype, ["f32"], "values are of type")
    if len(node.dims) > AXES_LIMIT:
        what = f"this type has {len(node.dims)} axes; a tensor has at most {AXES_LIMIT}"
        frame.fail(node.dims[AXES_LIMIT], "E0320", what)
    type = activation(tuple(dimension(dim, frame) for dim in node.dims), dtype)
    if type.elements >= ELEMENTS:
        what = f"a tensor of {type.elements:,} numbers an image: they must be below 2^45"
        frame.fail(node, "E0402", what)
    return type


def dimension(node: s.Expression, frame: Frame) -> Dim:
    """A size of a type: a positive whole number, or the batch."""
    if isinstance(node, s.Name) and node.name == BATCH:
        return BATCH
    value = evaluate(node, frame)
    if value == BATCH or isinstance(value, Batch):
        return BATCH
    if isinstance(value, bool) or not isinstance(value, int):
        frame.fail(node, "E0308", f"a size is a whole number, not {kind(value)} {show(value)}")
    if not 1 <= value < DIMENSION:
        code = "E0203" if value < 1 else "E0402"
        frame.fail(node, code, f"a size of {value}: it must be at least 1 and below 2^31")
    return value
