"""Losses of labels that are known."""

from __future__ import annotations

import numpy as np

from cnnc.interop.onnx_import.calls import Call, Unsupported
from cnnc.interop.onnx_import.importer import Array, Importer, rule
from cnnc.ir.types import BATCH, PLAIN


def _picked(i: Importer, c: Call, scores: str) -> tuple[str, Array]:
    """Minus the score of each label, times its class's weight; and the weights."""
    t = i.type(scores)
    if BATCH in t.shape:
        raise Unsupported(c, "its batch is open, and labels are not")
    labels = i.known(c, 1, "labels").astype(np.int64)
    classes, ignored = int(t.shape[1]), c.get("ignore_index")
    weights = np.ones(classes) if not c.has(2) else i.known(c, 2, "weights").astype(np.float64)
    kept = labels != ignored if ignored is not None else np.ones(labels.shape, bool)
    i.make(classes, max(classes, labels.size))
    inside = np.where(kept, labels, 0) % classes
    each = np.where(kept, weights[inside], 0.0)
    mask = np.moveaxis(np.eye(classes)[inside], -1, 1) * each[:, None]
    factor = i.parameter(-mask, "", "labels", PLAIN.get(mask.ndim))
    return i.add("sum", [i.add("mul", [scores, factor])], {"axis": (1,)}), each


def _reduced(i: Importer, c: Call, loss: str, each: Array) -> str:
    how, axes = c.text("reduction", "mean"), tuple(range(i.type(loss).rank))
    if how == "none":
        return loss
    total = i.add("sum", [loss], {"axis": axes})
    return total if how == "sum" else i.pointwise(f"a0 / {float(each.sum())!r}", total)


@rule("NegativeLogLikelihoodLoss")
def likelihood(i: Importer, c: Call) -> str:
    loss, each = _picked(i, c, i.tensor(c, 0))
    return _reduced(i, c, loss, each)


@rule("SoftmaxCrossEntropyLoss")
def cross_entropy(i: Importer, c: Call) -> list[str]:
    scores = i.add("log_softmax", [i.tensor(c, 0)], {"axis": 1})
    loss, each = _picked(i, c, scores)
    return [_reduced(i, c, loss, each), scores][: len(c.outputs)]
