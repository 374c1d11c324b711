"""Calls whose operands are known: their results, which are calculated when a model is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnc.interop.onnx_import import known
from cnnc.interop.onnx_import.calls import Call
from cnnc.untrusted import Malformed

Array = np.ndarray[Any, Any]


def fold_call(call: Call, given: Sequence[Array | None]) -> list[Array] | None:
    """The results of a call whose operands are known; None where it has to be run."""
    if call.operator == "Constant":
        return [_constant(call)]
    result = known.fold(call.operator, given, call.attributes) if call.operator != "Cast" else _cast(call, given)
    return None if result is None else [result]


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
