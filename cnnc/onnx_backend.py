"""`onnx.backend.base.Backend` on networks of ours: what runs ONNX models behind that interface runs them here.

import onnx, cnnc.onnx_backend as backend
y, = backend.prepare(onnx.load("net.onnx"), "CPU").run([x])
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx.backend.base import Backend, BackendRep

from cnnc import driver
from cnnc.diagnostics import CnncError, error
from cnnc.interop.onnx_import.model import is_data, of_model, open_shapes, program_of
from cnnc.network import Network, as_float32
from cnnc.runtime.executable import Executable

Array = np.ndarray[Any, Any]
TARGETS = {"CPU": "cpu", "REFERENCE": "reference"}


class Prepared(BackendRep):  # type: ignore[misc]
    """A model that is ready to run. What must be known of its inputs to compile it, such as the shape that Reshape is
    given, is bound when it is first met, and so are the sizes that it leaves open.
    """

    def __init__(self, model: Any, target: str) -> None:
        self.model, self.target = model, target
        constants = {t.name for t in model.graph.initializer}
        self._inputs = [v for v in model.graph.input if v.name not in constants]
        for v in (*self._inputs, *model.graph.output):
            if not v.type.HasField("tensor_type"):
                raise error("E0653", f"'{v.name[:80]}' of {model.graph.name} holds no tensor", exit_code=3)
        self._kinds = [v.type.tensor_type.elem_type for v in model.graph.output]
        self._made: dict[tuple[Any, ...], Executable] = {}
        self._bound = [v.name for v in self._inputs if not is_data(model.graph, v)]
        if not self._bound and not any(isinstance(d, str) for s in open_shapes(model.graph).values() for d in s):
            try:
                self._made[()] = self._compile({}, {})
            except CnncError as e:
                if len(self._inputs) < 2 or "depends on the input" not in str(e):
                    raise
                self._bound = [v.name for v in self._inputs[1:]]

    def _compile(self, fixed: dict[str, Array], shapes: dict[str, tuple[int, ...]]) -> Executable:
        found = of_model(self.model, Path(self.model.graph.name or "model"), shapes, fixed=fixed)
        network = Network(program_of(found))
        for name, value in found.weights.items():
            network.weights[name] = value
        return driver.compile(network, self.target)

    def _met(self, given: dict[str, Array]) -> Executable:
        """The executable of these sizes and constants."""
        fixed = {k: v for k, v in given.items() if k in self._bound}
        shapes = {k: v.shape for k, v in given.items() if k not in self._bound}
        key = (*shapes.values(), *(v.tobytes() for v in fixed.values()))
        try:
            self._made[key] = self._made.get(key) or self._compile(fixed, shapes)
            return self._made[key]
        except CnncError as e:
            rest = [v.name for v in self._inputs if v.name not in self._bound][1:]
            if not rest or "depends on the input" not in str(e):
                raise
            self._bound += rest
            return self._met(given)

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Array, ...]:
        """The outputs, in the model's order, of its inputs in order or by name."""
        from onnx.helper import tensor_dtype_to_np_dtype

        names = [v.name for v in self._inputs]
        given = dict(inputs) if isinstance(inputs, dict) else dict(zip(names, inputs, strict=False))
        given = {k: np.asarray(v) for k, v in given.items()}
        executable = self._made.get(()) or self._met(given)
        shapes = [k for k in names if k not in self._bound]
        values = [
            as_float32(v, k) if v.dtype == np.float64 else v.astype(np.float32)
            for k, v in ((k, given[k]) for k in shapes)
        ]
        taken = dict(zip((n.name for n in executable.graph.inputs), values, strict=True))
        outputs = executable.run(taken).values()
        return tuple(
            np.asarray(a).astype(tensor_dtype_to_np_dtype(kind)) for a, kind in zip(outputs, self._kinds, strict=True)
        )


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
