"""Every example out to ONNX Runtime and back in: the same numbers there, the same network and numbers here.

python -m tests.interop.round_trip [NAME ...]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import cnnc
from cnnc.interop.onnx import model

EXAMPLES = Path(__file__).parents[2] / "examples"
NEAR = 1e-4  # of the largest value
SMALL: dict[str, dict[str, Any]] = {
    "unet": {},
    "vgg": {"depth": 11},
    "resnet": {"depth": 18},
    "densenet": {"depth": 121},
}


def check(path: Path, folder: Path) -> tuple[float, float]:
    """How far ONNX Runtime, and the network that comes back, are off: parts of the largest value of each output. Raises
    AssertionError where the network that comes back is another.
    """
    import onnxruntime

    net = cnnc.load(path, **SMALL.get(path.stem, {})).representative
    file = folder / "net.onnx"
    file.write_bytes(model(net.graph, net.weights).SerializeToString())
    again = cnnc.load(file).representative
    assert list(again.weights) == list(net.weights)
    assert all(np.array_equal(again.weights[n], v) for n, v in net.weights.items())
    rng = np.random.default_rng(0)
    given = {n.name: rng.standard_normal(n.type.concrete(1)).astype(np.float32) for n in net.graph.inputs}
    ours, back = (cnnc.compile(n).run(given) for n in (net, again))
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    labels = [o.name for o in session.get_outputs()]
    theirs = dict(zip(labels, session.run(None, given), strict=True))
    assert set(theirs) == set(ours) == set(back)
    size = {k: max(1e-30, float(np.abs(v).max())) for k, v in ours.items()}
    apart = [max(float(np.abs(other[k] - v).max()) / size[k] for k, v in ours.items()) for other in (theirs, back)]
    return apart[0], apart[1]


def main(names: list[str]) -> int:
    failed = 0
    print("| example | ONNX Runtime | back in |\n| --- | --: | --: |")
    for path in sorted(EXAMPLES.glob("*.cnn")):
        if names and path.stem not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                there, back = check(path, Path(folder))
                failed += max(there, back) > NEAR
                print(f"| {path.stem} | {there:.1e} | {back:.1e} |", flush=True)
            except (AssertionError, cnnc.CnncError) as e:
                failed += 1
                print(f"| {path.stem} | {' '.join(str(e).split())[:200]} | |", flush=True)
    return failed > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
