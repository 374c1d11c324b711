"""What losses read beside a network's outputs, as callers and data sets give it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnc.data.labels import Form
from cnnc.diagnostics import error
from cnnc.passes.losses import Target
from cnnc.runtime.inputs import as_array, check_labels

Array = NDArray[Any]


def checked(targets: Mapping[str, Target], labels: Any, images: int) -> dict[str, Array]:
    """What losses read, for so many images: an array, or of several targets a mapping by name. Raises `CnncError` (E0629,
    E0702, E0703)."""
    if isinstance(labels, Mapping):
        given: Mapping[str, Any] = labels
    else:
        given = {} if labels is None else dict.fromkeys(list(targets)[:1], labels)
    missing = [name for name in targets if name not in given]
    if missing:
        names = ", ".join(targets)
        raise error("E0703", f"{', '.join(missing)} missing", help=f"the loss reads {names}", exit_code=3)
    found: dict[str, Array] = {}
    for name, target in targets.items():
        y, shape = as_array(given[name], name), [images, *target.type.shape[1:]]
        if target.classes is not None and y.dtype.kind not in "iu":
            raise error(
                "E0629",
                f"{name} are {y.dtype}; they must be whole numbers",
                help="convert them with .astype(np.int64)",
                exit_code=3,
            )
        if y.dtype.kind not in "fiub":
            raise error("E0629", f"{name} is {y.dtype}; it must be numbers", exit_code=3)
        if list(y.shape) != shape:
            per_pixel = target.classes is not None and len(shape) > 1 and y.ndim == 1
            raise error(
                "E0702",
                f"{name} are {list(y.shape)} for {images} images; {shape} is needed",
                help="end the network with `-> flatten -> linear(classes)`, or label each pixel" if per_pixel else None,
                exit_code=3,
            )
        check_labels(y, target.classes, target.ignored)
        found[name] = np.ascontiguousarray(y, np.int64 if target.classes is not None else np.float32)
    return found


def form_of(found: Mapping[str, Target]) -> Form | None:
    """What a data set has for each image, None where a loss reads nothing. Raises `CnncError` (E0641) for several
    targets."""
    if len(found) > 1:
        names = ", ".join(found)
        raise error(
            "E0641", f"the losses read {names}; a data set has one", help="train in Python, by trainer.step(x, {...})"
        )
    return next((Form(tuple(int(d) for d in t.type.shape[1:]), t.type.dtype) for t in found.values()), None)
