"""Losses and starts by name, for Python: `cnnc.loss("huber", delta=2)`, `cnnc.start("normal", std=0.01)`."""

from __future__ import annotations

from typing import Any

from cnnc.arguments import USAGE
from cnnc.diagnostics import CnncError, error
from cnnc.ir import objective
from cnnc.ir import start as starts
from cnnc.ir.objective import Loss
from cnnc.ir.op import InferenceError
from cnnc.ir.start import Start


def start(name: str, **arguments: Any) -> Start:
    """How weights start, by name and arguments as `init=` in the language has them. Raises `CnncError` (E0706)."""
    try:
        return starts.start(name, **arguments)
    except InferenceError as e:
        raise _wrong(e) from None


def loss(name: str, **arguments: Any) -> Loss:
    """A loss by name and arguments as recipes have them; `0.3 * loss("mse")` weighs it. Raises `CnncError` (E0706)."""
    try:
        return objective.loss(name, **arguments)
    except InferenceError as e:
        raise _wrong(e) from None


def _wrong(e: InferenceError) -> CnncError:
    return error("E0706", e.message, help=e.help, exit_code=USAGE)
