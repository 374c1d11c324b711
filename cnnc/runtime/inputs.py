"""From what a caller has to what a kernel reads: native, contiguous arrays of the graph's types, or a reason why not."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnnc.diagnostics import did_you_mean, error
from cnnc.ir.graph import Node
from cnnc.ir.types import BATCH, DTYPES

Array = np.ndarray[Any, Any]


def as_array(value: Any, name: str) -> Array:
    """An array over whatever speaks the buffer protocol, `__array_interface__`, `__array__` or `__dlpack__`. Raises
    `CnncError` (E0701).
    """
    try:
        if hasattr(value, "__dlpack__") and not isinstance(value, np.ndarray) and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        return np.asarray(value)
    except (TypeError, ValueError, BufferError, RuntimeError) as e:
        raise error(
            "E0701",
            f"input '{name}' is no array: {e}",
            help="give a NumPy array, or anything with the buffer protocol or __dlpack__",
            exit_code=3,
        ) from None


def convert(value: Any, node: Node) -> Array:
    """One input as its node's type wants it, with a batch that is still free. Raises `CnncError` (E0701 element type,
    E0702 shape).
    """
    array, wanted = as_array(value, node.name), DTYPES[node.type.dtype]
    if array.dtype.kind not in ("fiub" if wanted.kind == "f" else "iu"):
        raise error(
            "E0701",
            f"input '{node.name}' is {array.dtype}; {wanted} is needed",
            help=f"convert it with .astype(np.{wanted})",
            exit_code=3,
        )
    shape = node.type.shape
    if array.ndim != len(shape) or any(d not in (BATCH, a) for d, a in zip(shape, array.shape, strict=True)):
        help = None
        if array.ndim == len(shape) - 1 and array.shape == tuple(shape[1:]):
            help = "a batch of one image has an axis in front: x[None]"
        elif array.ndim == len(shape) == 4 and array.shape[3] == shape[1]:
            help = "channels come before height and width: x.transpose(0, 3, 1, 2)"
        raise error(
            "E0702", f"input '{node.name}' is {list(array.shape)}; {node.type} is needed", help=help, exit_code=3
        )
    if (
        wanted.kind == "i"
        and array.dtype.kind == "u"
        and array.dtype.itemsize == 8
        and array.size
        and int(array.max()) > np.iinfo(wanted).max
    ):
        raise error("E0701", f"input '{node.name}' has values beyond {wanted}", exit_code=3)
    if array.dtype == np.uint8 and wanted.kind == "f" and len(shape) == 4:
        warnings.warn(
            f"the input '{node.name}' is given as bytes, which are taken as the numbers 0 to 255; training and `cnnc run` "
            "divide pixels by 255 and apply the input's mean and std: give float32 as they make it",
            stacklevel=6,
        )
    with np.errstate(over="ignore"):
        return np.asarray(array, wanted, order="C")


def whole(name: str, value: Any) -> None:
    """Raises `CnncError` (E0704) where a count is no whole number from 1 on."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 < value < 2**31:
        raise error("E0704", f"{name} is {value!r}; it must be a whole number, 1 to 2^31 - 1", exit_code=2)


def check_labels(labels: Array, classes: int | None, ignored: int | None = None) -> None:
    """Raises `CnncError` (E0629) for a label that is no class of so many, and none that is passed over. Without classes
    anything is right."""
    if classes is None:
        return
    wrong = labels[(labels < 0) | (labels >= classes)]
    if ignored is not None:
        wrong = wrong[wrong != ignored]
    if wrong.size:
        raise error("E0629", f"the label {wrong[0]} is none of the network's {classes} classes", exit_code=3)


def gather(nodes: Sequence[Node], positional: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Array]:
    """Every input of a graph, from a call's arguments. Raises `CnncError` (E07xx)."""
    names = [n.name for n in nodes]
    if len(positional) > len(names):
        raise error(
            "E0703",
            f"{len(positional)} inputs are given; the network has {len(names)}: {', '.join(names)}",
            exit_code=3,
        )
    given = dict(zip(names, positional, strict=False))
    for name, value in named.items():
        if name not in names:
            raise error(
                "E0703",
                f"the network has no input '{name}'",
                help=did_you_mean(name, names) or f"its inputs are {', '.join(names)}",
                exit_code=3,
            )
        if name in given:
            raise error("E0703", f"input '{name}' is given twice", exit_code=3)
        given[name] = value
    missing = [n for n in names if n not in given]
    if missing:
        raise error("E0703", f"input{'s' if len(missing) > 1 else ''} {', '.join(missing)} missing", exit_code=3)
    arrays = {n.name: convert(given[n.name], n) for n in nodes}
    batches = {n.name: arrays[n.name].shape[axis] for n in nodes for axis, d in enumerate(n.type.shape) if d == BATCH}
    if len(set(batches.values())) > 1:
        raise error(
            "E0702",
            f"the inputs have different batches: {', '.join(f'{k} has {v}' for k, v in batches.items())}",
            exit_code=3,
        )
    return arrays


def batch_of(arrays: Mapping[str, Array], nodes: Sequence[Node]) -> int:
    """The batch of inputs that `gather` gave; 1 where none has one."""
    return next((arrays[n.name].shape[axis] for n in nodes for axis, d in enumerate(n.type.shape) if d == BATCH), 1)


def broadcast(value: Any, node: Node, batch: int) -> Array:
    """A number, or an array that NumPy broadcasts, as the whole input of a batch. Raises `CnncError` (E0701, E0702)."""
    array, shape = as_array(value, node.name), node.type.concrete(batch)
    try:
        return convert(np.broadcast_to(array, shape), node)
    except ValueError:
        what = f"'{node.name}' is {list(array.shape)}; {list(shape)}, or what broadcasts to it, is needed"
        raise error("E0702", what, exit_code=3) from None


class Signature:
    """The inputs of a graph, worked out once: a call that gives them as kernels read them takes 2 us here, not 10."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = tuple(nodes)
        self._wanted = tuple((n.name, DTYPES[n.type.dtype], n.type.shape) for n in self.nodes)
        # most networks have one input, [N, ...] of fixed sizes: told for it in 0.3 us
        shapes = [n.type.shape for n in self.nodes]
        usual = len(shapes) == 1 and len(shapes[0]) > 1 and shapes[0][0] == BATCH and BATCH not in shapes[0][1:]
        self._one = self._wanted[0] if usual else None

    def gather(self, positional: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Array]:
        """Every input, from a call's arguments. Raises `CnncError` (E07xx)."""
        if self._one is not None and len(positional) == 1 and not named:
            array, (name, dtype, shape) = positional[0], self._one
            fits = type(array) is np.ndarray and array.dtype is dtype and array.shape[1:] == shape[1:]
            if fits and array.flags.c_contiguous:
                return {name: array}
        if named or not self._fits(positional):
            return gather(self.nodes, positional, named)
        return {name: array for (name, _, _), array in zip(self._wanted, positional, strict=True)}

    def _fits(self, given: Sequence[Any]) -> bool:
        """Whether the arrays need neither conversion nor an error message."""
        if len(given) != len(self._wanted):
            return False
        batch = None
        for array, (_, dtype, shape) in zip(given, self._wanted, strict=True):
            if type(array) is not np.ndarray or array.dtype != dtype or not array.flags.c_contiguous:
                return False
            if array.ndim != len(shape):
                return False
            for size, wanted in zip(array.shape, shape, strict=True):
                if wanted == BATCH:
                    batch = size if batch is None else batch
                if size != (batch if wanted == BATCH else wanted):
                    return False
        return True
