"""Losses over classes on GPUs."""

from __future__ import annotations

from cnnc.backends.cuda.context import Lowering
from cnnc.backends.cuda.emit import emit, scratch
from cnnc.backends.cuda.rules.reduce import total
from cnnc.ir.graph import Node
from cnnc.ir.types import DTYPES
from cnnc.kernels.cuda.loss.classes_plan import plan_classes


def _mean_of_rows(low: Lowering, node: Node, what: str) -> None:
    logits, labels = node.inputs
    rows, classes = low.shape(logits)
    terms = scratch(low, f"{node.name}~rows", rows)
    launch = plan_classes(what, rows, classes, DTYPES[low.type(labels).dtype].itemsize)
    emit(low, node, launch, {"x": low.ref(logits), "labels": low.ref(labels), "y": terms}, ["y"])
    total(low, node, terms, rows, 1 / rows)


def cross_entropy(low: Lowering, node: Node) -> None:
    _mean_of_rows(low, node, "term")


def accuracy(low: Lowering, node: Node) -> None:
    _mean_of_rows(low, node, "hit")


def cross_entropy_gradient(low: Lowering, node: Node) -> None:
    logits, labels, dloss = node.inputs
    rows, classes = low.shape(logits)
    launch = plan_classes("gradient", rows, classes, DTYPES[low.type(labels).dtype].itemsize)
    buffers = {"x": low.ref(logits), "labels": low.ref(labels), "scale": low.ref(dloss), "y": low.ref(node.name)}
    emit(low, node, launch, buffers, ["y"])
