"""Products of matrices."""

from __future__ import annotations

import numpy as np

from cnnc.interop.onnx_import.calls import Call
from cnnc.interop.onnx_import.importer import Importer, rule


@rule("Gemm")
def gemm(i: Importer, c: Call) -> str:
    """alpha * A B + beta * C, its factors taken into the weights."""
    alpha, beta = c.number("alpha", 1.0), c.number("beta", 1.0)
    w, bias = i.fixed(c, 1), i.fixed(c, 2)
    if w is None or (c.has(2) and bias is None) or c.integer("transA", 0):
        return _products(i, c, alpha, beta)
    x = i.tensor(c, 0)
    i.layer(c)
    matrix = w if c.integer("transB", 0) else w.T
    factor = "" if alpha == 1 and c.integer("transB", 0) else ".rows"
    operands = [x, i.parameter(alpha * matrix, c.inputs[1] + factor, "weight")]
    if bias is not None and bias.size and (bias.ndim < 2 or bias.shape[0] == 1):
        whole = np.broadcast_to(beta * bias.reshape(-1), (matrix.shape[0],))
        return i.add("linear", [*operands, i.parameter(whole, c.inputs[2], "bias")])
    y = i.add("linear", operands)
    return y if bias is None or not bias.size else i.add("add", [y, i.aligned(beta * bias, 2, c.inputs[2])])


def _products(i: Importer, c: Call, alpha: float, beta: float) -> str:
    a, b = (
        i.add("transpose", [i.tensor(c, at)], {"axes": (1, 0)}) if c.integer(name, 0) else i.tensor(c, at)
        for at, name in ((0, "transA"), (1, "transB"))
    )
    y = i.add("matmul", [a, b])
    y = y if alpha == 1 else i.pointwise(f"{alpha!r} * a0", y)
    if not c.has(2):
        return y
    z = i.aligned(i.values[c.inputs[2]], 2, c.inputs[2])
    return i.pointwise(f"a0 + {beta!r} * a1", y, z)


@rule("MatMul")
def matmul(i: Importer, c: Call) -> str:
    a, b = (i.values[name] for name in c.inputs)
    if isinstance(a, str) and isinstance(b, np.ndarray) and b.ndim == 2 and i.type(a).rank == 2:
        i.layer(c)
        return i.add("linear", [a, i.parameter(b.T, c.inputs[1] + ".rows", "weight")])
    return product(i, i.tensor(c, 0), i.tensor(c, 1))


def product(i: Importer, a: str, b: str) -> str:
    """Of matrices; a vector on the left is a row, one on the right a column."""
    row, column = i.type(a).rank == 1, i.type(b).rank == 1
    a = i.add("reshape", [a], {"shape": (1, *i.type(a).shape)}) if row else a
    b = i.add("reshape", [b], {"shape": (*i.type(b).shape, 1)}) if column else b
    y = i.add("matmul", [a, b])
    shape = i.type(y).shape
    kept = (*shape[:-2], *(() if row else shape[-2:-1]), *(() if column else shape[-1:]))
    return y if kept == shape else i.add("reshape", [y], {"shape": kept})
