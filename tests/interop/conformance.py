"""ONNX's own suite, run on cnnc: what passes, what does not and why, by family.

    python -m tests.interop.conformance                   on the reference; --target CPU on compiled kernels
    python -m tests.interop.conformance --only conv --list

A test passes where it gives ONNX's results within its own tolerances. What is refused is no pass: it is out of scope where
its reason below says so, and missing otherwise. A wrong result or an exception that is no diagnostic is a fault.
"""

from __future__ import annotations

import argparse
import glob
import os
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from cnnc.diagnostics import CnncError
from cnnc.onnx_backend import CnncBackend

FAMILIES = {
    "convolution": "Conv ConvTranspose ConvInteger",
    "pooling": "MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool GlobalLpPool MaxUnpool",
    "normalization": "BatchNormalization InstanceNormalization LayerNormalization GroupNormalization RMSNormalization LRN "
    "LpNormalization MeanVarianceNormalization",
    "activations": "Relu LeakyRelu PRelu Elu Celu Selu Gelu Sigmoid HardSigmoid HardSwish Swish Mish Softplus Softsign Tanh "
    "ThresholdedRelu Shrink Softmax LogSoftmax Hardmax Clip Dropout",
    "products": "MatMul Gemm QLinearMatMul",
    "shape": "Reshape Flatten Transpose Squeeze Unsqueeze Concat Split Slice Pad Gather Expand Tile DepthToSpace SpaceToDepth "
    "Identity Constant ConstantOfShape Shape Size Range Trilu CenterCropPad",
    "resize": "Resize Upsample",
    "reductions": "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum "
    "ReduceLogSumExp ArgMax ArgMin CumSum",
    "arithmetic": "Add Sub Mul Div Pow Mod Neg Abs Sqrt Exp Log Reciprocal Floor Ceil Round Sign Erf Max Min Mean Sum Where "
    "Equal Greater Less GreaterOrEqual LessOrEqual And Or Xor Not IsNaN Cast CastLike",
    "losses": "SoftmaxCrossEntropyLoss NegativeLogLikelihoodLoss",
    "quantization": "QuantizeLinear DequantizeLinear QLinearConv DynamicQuantizeLinear MatMulInteger",
}
FAMILY = {op: family for family, ops in FAMILIES.items() for op in ops.split()}
HALF = "rounding to bfloat16 at each step: results are nearer"
FLOAT32 = "dynamicquantizelinear"  # halves in float32 are none in float64: its tests are for compiled kernels
UNKNOWN = "operators that no convolutional network needs"
# of a refusal's text: why it is out of scope
REASONS = (
    ("is of integers or texts", "integers or texts as data: networks compute floats"),
    ("would have a size of 0", "tensors without values"),
    ("nothing is left of it", "tensors without values"),
    ("slice [8, 8) of 8", "tensors without values"),
    (
        "aligned and its sizes",
        "aligned corners of sizes that are no whole numbers: ONNX's reference and its runtimes differ",
    ),
    ("drops values in its training mode", "random numbers of ONNX's own"),
    ("its pads depends on the input", "results whose sizes depend on values"),
    (HALF, HALF),
    ("when a model is read, and depends on the input", "results whose sizes depend on values"),
    ("from 6 on they are read", "operators older than version 6"),
    ("cannot be read: unknown", "types of less than 8 bits, and floats of 8"),
    ("makes numbers of type", "types of less than 8 bits, and floats of 8"),
    ("is of type", "types of less than 8 bits, and floats of 8"),
    ("beyond float32", "float64 beyond float32's range"),
    ("holds no tensor", "sequences and optionals"),
    ("that are not read", UNKNOWN),
)


@dataclass(frozen=True)
class Case:
    """A test: pairs of inputs and expected outputs."""

    name: str
    model: Any
    data: Sequence[tuple[Sequence[Any], Sequence[Any]]]
    rtol: float = 1e-3
    atol: float = 1e-7

    @property
    def family(self) -> str:
        ops = [n.op_type for n in self.model.graph.node]
        known = Counter(FAMILY[o] for o in ops if o in FAMILY)
        if "expanded" in self.name or not all(o in FAMILY or o == "Constant" for o in ops):
            return "others"
        return known.most_common(1)[0][0] if known else "others"


def cases(kind: str) -> Iterator[Case]:
    """All tests of a kind: node, simple, pytorch-operator, pytorch-converted."""
    if kind == "node":
        from onnx.backend.test.case.node import collect_testcases

        for t in collect_testcases(None):
            if t.model is not None:
                yield Case(t.name, t.model, t.data_sets, t.rtol, t.atol)
        return
    root = os.path.join(os.path.dirname(onnx.__file__), "backend", "test", "data", kind)
    for name in sorted(os.listdir(root)):
        path = os.path.join(root, name, "model.onnx")
        if os.path.exists(path):
            sets = [
                (_read(d, "input"), _read(d, "output"))
                for d in sorted(glob.glob(os.path.join(root, name, "test_data_set_*")))
            ]
            yield Case(name, onnx.load(path), sets)


def _read(folder: str, what: str) -> list[Any]:
    arrays = []
    while os.path.exists(path := os.path.join(folder, f"{what}_{len(arrays)}.pb")):
        with open(path, "rb") as f:
            tensor = onnx.TensorProto()
            tensor.ParseFromString(f.read())
        arrays.append(numpy_helper.to_array(tensor))
    return arrays


def outcome(case: Case, target: str) -> tuple[str, str]:
    """("passed", ""), ("refused", why), ("wrong", how) or ("fault", the exception)."""
    try:
        prepared = CnncBackend.prepare(case.model, "CPU" if FLOAT32 in case.name else target)
        for inputs, expected in case.data:
            found = prepared.run([numpy_helper.to_array(a) if isinstance(a, onnx.TensorProto) else a for a in inputs])
            for a, b in zip(found, expected, strict=True):
                b = numpy_helper.to_array(b) if isinstance(b, onnx.TensorProto) else np.asarray(b)
                if a.shape != b.shape or not np.allclose(
                    a.astype(np.float64), b.astype(np.float64), case.rtol, max(case.atol, 1e-6), equal_nan=True
                ):
                    if a.shape == b.shape and _of_half(case) and np.allclose(a.astype(float), b.astype(float), 2**-7):
                        return "refused", HALF
                    return "wrong", f"{a.shape} for {b.shape}" if a.shape != b.shape else f"by {np.abs(a - b).max()}"
    except CnncError as e:
        return "refused", " ".join(str(e).split())
    except (TypeError, ValueError) as e:  # sequences, optionals and types that NumPy has not
        return (
            ("refused", "sequences and optionals, and types that NumPy has not")
            if _strange(case)
            else ("fault", repr(e))
        )
    except Exception as e:
        return "fault", repr(e)
    return "passed", ""


def _strange(case: Case) -> bool:
    ends = (*case.model.graph.input, *case.model.graph.output)
    kinds = [v.type.tensor_type.elem_type for v in ends if v.type.HasField("tensor_type")]
    return len(kinds) < len(ends) or any(k not in (1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 16) for k in kinds)


def _of_half(case: Case) -> bool:
    return all(v.type.tensor_type.elem_type == onnx.TensorProto.BFLOAT16 for v in case.model.graph.output)


def reason(case: Case, text: str) -> str | None:
    """Why a refusal is out of scope; None where it is missing."""
    strange = "types of less than 8 bits or that NumPy has not, sequences and optionals" if _strange(case) else None
    why = next((why for part, why in REASONS if part in text), strange)
    return (
        None if why == UNKNOWN and case.family != "others" else why
    )  # an operator of a family that is in scope is missing


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.interop.conformance",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kind", nargs="*", default=["node", "simple", "pytorch-operator", "pytorch-converted"])
    parser.add_argument("--target", default="REFERENCE")
    parser.add_argument("--only", default="")
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    table: dict[str, Counter[str]] = defaultdict(Counter)
    why: Counter[str] = Counter()
    faults = []
    for kind in arguments.kind:
        for case in cases(kind):
            if arguments.only not in case.name:
                continue
            family = case.family if kind == "node" else kind
            what, text = outcome(case, arguments.target)
            if what == "refused" and (out := reason(case, text)) is not None:
                what = "out of scope"
                why[out] += 1
            table[family][what] += 1
            if what in ("wrong", "fault") or (arguments.list and what != "passed"):
                faults.append(f"{what}: {case.name}: {text[:200]}")
    print("| family | run | passed | out of scope | missing | wrong |\n| --- | --: | --: | --: | --: | --: |")
    for family, row in table.items():
        total, wrong = sum(row.values()), row["wrong"] + row["fault"]
        print(f"| {family} | {total} | {row['passed']} | {row['out of scope']} | {row['refused']} | {wrong} |")
    print("\n".join(["", *(f"- {n}: {text}" for text, n in why.most_common()), "", *faults]))
    return 1 if any(f.startswith(("wrong", "fault")) for f in faults) else 0


if __name__ == "__main__":
    sys.exit(main())
