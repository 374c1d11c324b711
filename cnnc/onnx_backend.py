"""`onnx.backend.base.Backend` on networks of ours: what runs ONNX models behind that interface runs them here.

import onnx, cnnc.onnx_backend as backend
y, = backend.prepare(onnx.load("net.onnx"), "CPU").run([x])
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx.backend.base import Backend, BackendRep

from cnnc import driver
from cnnc.interop.onnx_import.model import of_model, program_of
from cnnc.network import Network

Array = np.ndarray[Any, Any]
TARGETS = {"CPU": "cpu", "REFERENCE": "reference"}


class Prepared(BackendRep):  # type: ignore[misc]
    """A compiled model."""

    def __init__(self, model: Any, target: str) -> None:
        found = of_model(model, Path(model.graph.name or "model"), {})
        network = Network(program_of(found))
        for name, value in found.weights.items():
            network.weights[name] = value
        self._kinds = [v.type.tensor_type.elem_type for v in model.graph.output]
        self.executable = driver.compile(network, target)

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Array, ...]:
        """The outputs, in the model's order, of its inputs in order or by name."""
        from onnx.helper import tensor_dtype_to_np_dtype

        given = inputs if isinstance(inputs, dict) else dict(zip(self._names(), inputs, strict=False))
        outputs = self.executable.run({k: np.asarray(v, np.float32) for k, v in given.items()}).values()
        return tuple(
            np.asarray(a).astype(tensor_dtype_to_np_dtype(kind)) for a, kind in zip(outputs, self._kinds, strict=True)
        )

    def _names(self) -> Sequence[str]:
        return [n.name for n in self.executable.graph.inputs]


class CnncBackend(Backend):  # type: ignore[misc]
    """Devices: "CPU", and "REFERENCE", the float64 interpreter."""

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **kwargs: Any) -> Prepared:
        """A model that is ready to run. Raises `CnncError` for what is not read (E0653 to E0656)."""
        return Prepared(model, TARGETS[device.split(":")[0]])

    @classmethod
    def run_model(cls, model: Any, inputs: Any, device: str = "CPU", **kwargs: Any) -> tuple[Array, ...]:
        return cls.prepare(model, device).run(inputs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return device.split(":")[0] in TARGETS


prepare = CnncBackend.prepare
run_model = CnncBackend.run_model
supports_device = CnncBackend.supports_device
