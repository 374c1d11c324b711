"""Calls whose operands are known: their results, which are calculated when a model is read."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from cnnc.interop.onnx_import import known
from cnnc.interop.onnx_import.calls import Call
from cnnc.untrusted import Malformed

Array = np.ndarray[Any, Any]
SMALL = 1 << 16  # numbers that ONNX's reference is given
# operators that it is asked for: of results no larger than their operands together
REFERENCE = (
    "Abs Erf Exp GreaterOrEqual LessOrEqual Log Relu Sigmoid Sign Softplus Softsign Sqrt Tanh Reciprocal Xor IsNaN Clip Pow "
    "Sum Mean Mod Round Split ReduceMean ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum ReduceLogSumExp ArgMax ArgMin CumSum "
    "Trilu CastLike LeakyRelu Softmax"
).split()


def fold_call(call: Call, given: Sequence[Array | None]) -> list[Array] | None:
    """The results of a call whose operands are known; None where it has to be run."""
    if call.operator == "Constant":
        return [_constant(call)]
    result = known.fold(call.operator, given, call.attributes) if call.operator != "Cast" else _cast(call, given)
    if result is not None:
        return [result]
    if not given or any(v is not None and known.is_open(v) for v in given):
        return None
    return _by_reference(call, given)


def _cast(call: Call, given: Sequence[Array | None]) -> Array:
    from cnnc.interop.onnx import package

    try:
        dtype = np.dtype(package().helper.tensor_dtype_to_np_dtype(call.integer("to", 1)))
    except (KeyError, ValueError):
        raise Malformed(f"it casts to a type that is none, {call.get('to')}") from None
    result = known.fold("Cast", given, {"to": dtype})
    assert result is not None
    return result


def _constant(call: Call) -> Array:
    for name, value in call.attributes.items():
        if name == "value" and isinstance(value, np.ndarray):
            return value
        if name.startswith("value_") and isinstance(value, int | float | tuple):
            return np.asarray(value, np.float32 if "float" in name else np.int64)
    raise Malformed("it holds no value that is read")


def _by_reference(call: Call, given: Sequence[Array | None]) -> list[Array] | None:
    """ONNX's own reference, for what small constants go through."""
    from cnnc.interop.onnx import package

    if call.operator not in REFERENCE or sum(np.size(g) for g in given if g is not None) > SMALL:
        return None
    try:
        if prod(np.broadcast_shapes(*(np.shape(g) for g in given if g is not None))) > known.LARGEST:
            return None
    except ValueError:
        pass  # operands that do not broadcast: an axis, a list of sizes
    try:
        onnx = package()
        from onnx.reference import ReferenceEvaluator

        attributes = {k: v for k, v in call.attributes.items() if not isinstance(v, np.ndarray)}
        node = onnx.helper.make_node(call.operator, list(call.inputs), list(call.outputs), **attributes)
        inputs = [onnx.helper.make_value_info(n, onnx.TypeProto()) for n in dict.fromkeys(call.inputs) if n]
        outputs = [onnx.helper.make_value_info(n, onnx.TypeProto()) for n in call.outputs if n]
        session = ReferenceEvaluator(onnx.helper.make_graph([node], "constant", inputs, outputs))
        feed = {n: g for n, g in zip(call.inputs, given, strict=True) if n}
        return [np.asarray(a) for a in session.run(None, feed)]
    except Exception:  # whatever it does not know either: the call is left to its rule
        return None
