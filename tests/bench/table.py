"""The set of networks that are compared, and the README's table of their results."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cnnc
from cnnc.cli.common import replacing

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
Record = Mapping[str, Any]

# name: (file of the example, its parameters, how the table calls it)
NETWORKS: dict[str, tuple[str, dict[str, Any], str]] = {
    "lenet": ("lenet5_relu.cnn", {}, "LeNet (20, 50 maps)"),
    "alexnet": ("alexnet.cnn", {}, "AlexNet"),
    "vgg11": ("vgg.cnn", {"depth": 11}, "VGG-11"),
    "vgg13": ("vgg.cnn", {"depth": 13}, "VGG-13"),
    "vgg16": ("vgg.cnn", {"depth": 16}, "VGG-16"),
    "vgg19": ("vgg.cnn", {"depth": 19}, "VGG-19"),
    "resnet18": ("resnet.cnn", {"depth": 18}, "ResNet-18"),
    "resnet34": ("resnet.cnn", {"depth": 34}, "ResNet-34"),
    "resnet50": ("resnet.cnn", {"depth": 50}, "ResNet-50"),
    "resnet101": ("resnet.cnn", {"depth": 101}, "ResNet-101"),
    "resnet152": ("resnet.cnn", {"depth": 152}, "ResNet-152"),
    "mobilenetv2": ("mobilenetv2.cnn", {}, "MobileNetV2"),
    "squeezenet": ("squeezenet.cnn", {}, "SqueezeNet 1.1"),
    "googlenet": ("googlenet.cnn", {}, "GoogLeNet"),
    "inception3": ("inception3.cnn", {}, "Inception-v3"),
    "densenet": ("densenet.cnn", {}, "DenseNet-121"),
    "resnext": ("resnext.cnn", {}, "ResNeXt-50"),
    "shufflenetv2": ("shufflenetv2.cnn", {}, "ShuffleNetV2"),
    "mobilenetv3": ("mobilenetv3.cnn", {}, "MobileNetV3"),
    "efficientnet": ("efficientnet.cnn", {}, "EfficientNet-B0"),
    "convnext": ("convnext.cnn", {}, "ConvNeXt-Tiny"),
    "zfnet": ("zfnet.cnn", {}, "ZFNet"),
    "unet": ("unet.cnn", {}, "U-Net"),
    "yolo": ("yolo.cnn", {}, "YOLO-like"),
    "resnet20": ("resnet_cifar.cnn", {}, "ResNet-20, 32x32"),
    "convnetjs": ("convnetjs.cnn", {}, "ConvNetJS's CIFAR network"),
    "m5": ("m5.cnn", {}, "M5, 1-d"),
    "r3d": ("r3d.cnn", {}, "R3D-18"),
}
TRAINING = {"lenet": 64, "alexnet": 32, "vgg11": 8, "vgg16": 4, "resnet18": 16, "resnet50": 8, "mobilenetv2": 16}
SET = [
    *((name, "infer", batch) for batch in (1, 16) for name in TRAINING),
    *((name, "train", batch) for name, batch in TRAINING.items()),
]
PEERS = {"infer": ("onnxruntime", "openvino", "torch", "torch-compile"), "train": ("torch", "torch-compile")}
HEADINGS = {"infer": "Inference, batch {}", "train": "A training step"}


def key(name: str, mode: str, batch: int) -> str:
    return f"{name}/{mode}/{batch}"


def build(name: str) -> cnnc.Network:
    """A network with random weights, and running statistics that are not those of a fresh one."""
    import numpy as np

    file, parameters, _ = NETWORKS[name]
    net, rng = cnnc.load(ROOT / "examples" / file, **parameters), np.random.default_rng(0)
    for weight in net.weights:
        if weight.endswith(".running_mean"):
            net.weights[weight] = rng.uniform(-0.1, 0.1, net.weights[weight].shape).astype(np.float32)
        elif weight.endswith(".running_var"):
            net.weights[weight] = rng.uniform(0.8, 1.2, net.weights[weight].shape).astype(np.float32)
    return net


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


def keep(path: Path, name: str, record: Record) -> None:
    """Put a record into a file of them, which is written whole or not at all."""
    records = {**read(path), name: record}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(records, indent=1))


def wanted(only: Iterable[str]) -> list[tuple[str, str, int]]:
    """The members of the set that have one of these parts of a key, such as `resnet50` or `train/8`; all without any."""
    only = list(only)
    return [m for m in SET if not only or any(f"/{o}/" in f"/{key(*m)}/" for o in only)]


def _fastest(record: Record, *engines: str) -> str:
    times = [e["median_ms"] for e in record["engines"] if e["name"] in engines]
    return shown(min(times)) if times else ""


def shown(milliseconds: float) -> str:
    return (
        f"{milliseconds:.2f}"
        if milliseconds < 10
        else f"{milliseconds:.3g}"
        if milliseconds < 1000
        else f"{milliseconds:.0f}"
    )


def markdown(records: Mapping[str, Record]) -> str:
    """The table of what there are records of, in the order of the set."""
    found = [(m, records[key(*m)]) for m in SET if key(*m) in records]
    if not found:
        return "No figures yet.\n"
    lines = [*_machine(found[-1][1])]
    heading = ""
    for (name, mode, batch), record in found:
        if HEADINGS[mode].format(batch) != heading:
            heading = HEADINGS[mode].format(batch)
            lines += [
                "",
                f"| {heading} | cnnc, ms | ONNX Runtime | OpenVINO | PyTorch | compiled | best peer / cnnc |",
                "| --- | --: | --: | --: | --: | --: | --: |",
            ]
        title = NETWORKS[name][2] + (f", batch {batch}" if mode == "train" else "")
        cells = [
            title,
            _fastest(record, "cnnc"),
            _fastest(record, "onnxruntime"),
            _fastest(record, "openvino"),
            _fastest(record, "torch", "torch channels_last"),
            _fastest(record, "torch-compile", "torch-compile channels_last"),
            "" if record["ratio"] is None else f"{record['ratio']:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _machine(record: Record) -> list[str]:
    names = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "torch": "PyTorch"}
    versions = ", ".join(f"{names[p]} {v.partition('+')[0]}" for p, v in record["versions"].items() if p in names)
    return [f"{record['processor']}, {record['target']}, {record['threads']} threads, float32. {versions}."]


def rewrite(path: Path, records: Mapping[str, Record]) -> None:
    """Put the table between the README's marks."""
    text = path.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert end, f"{path} has no place for the table: {BEGIN} ... {END}"
    with replacing(path) as temporary:
        temporary.write_text(f"{before}{BEGIN}\n\n{markdown(records)}\n{END}{after}", encoding="utf-8")
