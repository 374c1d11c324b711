"""Ten small networks as PyTorch exports them, by both of its exporters, read again and written as `.cnn`.

python -m tests.interop.exports            all of them: opsets 11 to 20 of the older, and in training
"""

from __future__ import annotations

import io
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import cnnc
from cnnc.cli.import_ import written

OPSETS = (11, 13, 17, 20)
NEAR = 1e-4  # of the largest value


class Sum(nn.Module):
    """x and what modules make of it, added."""

    def __init__(self, *modules: nn.Module, skip: nn.Module | None = None) -> None:
        super().__init__()
        self.main, self.skip = nn.Sequential(*modules), skip or nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.main(x) + self.skip(x)


class Join(nn.Module):
    """What several modules make of x, side by side."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(modules)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([m(x) for m in self.parts], 1)


class Gate(nn.Module):
    """Squeeze and excite (Hu et al., 2018)."""

    def __init__(self, channels: int, act: nn.Module) -> None:
        super().__init__()
        self.fc1, self.fc2, self.act = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1), act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.act(self.fc2(torch.relu(self.fc1(x.mean((2, 3), keepdim=True)))))


class Shuffle(nn.Module):
    """Half of the channels through modules, then both halves shuffled (Ma et al., 2018)."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.main = nn.Sequential(*modules)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = x.chunk(2, dim=1)
        y = torch.cat([a, self.main(b)], 1)
        n, c, h, w = y.shape
        return y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class ChannelsLast(nn.Module):
    """Modules on [N, H, W, C]."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.main = nn.Sequential(*modules)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.main(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Resized(nn.Module):
    def __init__(self, mode: str, factor: float) -> None:
        super().__init__()
        self.mode, self.factor = mode, factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        more = {} if self.mode == "nearest" else {"align_corners": False}
        return nn.functional.interpolate(x, scale_factor=self.factor, mode=self.mode, **more)


def _conv(i: int, o: int, k: int = 3, s: int = 1, g: int = 1, act: nn.Module | None = None) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(i, o, k, s, k // 2, groups=g, bias=False), nn.BatchNorm2d(o), act or nn.ReLU())


def _head(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.0), nn.Linear(channels, 5)]


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "vgg": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(True), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(True),
        nn.AdaptiveAvgPool2d((4, 4)), nn.Flatten(), nn.Linear(128, 16), nn.ReLU(True), nn.Dropout(0.0), nn.Linear(16, 5)),
    "resnet": lambda: nn.Sequential(
        _conv(3, 8, 7, 2), nn.MaxPool2d(3, 2, 1), Sum(_conv(8, 8), nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)),
        nn.ReLU(), Sum(_conv(8, 16, 3, 2), skip=nn.Sequential(nn.Conv2d(8, 16, 1, 2), nn.BatchNorm2d(16))), *_head(16)),
    "mobilenet": lambda: nn.Sequential(
        _conv(3, 8, 3, 2, act=nn.Hardswish()),
        Sum(_conv(8, 16, 1, act=nn.ReLU6()), _conv(16, 16, g=16, act=nn.Hardswish()), Gate(16, nn.Hardsigmoid()),
            nn.Conv2d(16, 8, 1), nn.BatchNorm2d(8)), *_head(8)),
    "densenet": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), Join(nn.Identity(), nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1))),
        nn.BatchNorm2d(12), nn.ReLU(), nn.AvgPool2d(2), *_head(12)),
    "inception": lambda: nn.Sequential(
        Join(_conv(3, 4, 1), nn.Sequential(nn.AvgPool2d(3, 1, 1), _conv(3, 4, 1)), _conv(3, 4, 5),
             nn.Sequential(nn.Conv2d(3, 4, (1, 7), padding=(0, 3)), nn.Conv2d(4, 4, (7, 1), padding=(3, 0)))),
        nn.MaxPool2d(3, 2, ceil_mode=True), *_head(16)),
    "efficientnet": lambda: nn.Sequential(
        _conv(3, 8, 3, 2, act=nn.SiLU()), Sum(_conv(8, 8, 5, g=8, act=nn.SiLU()), Gate(8, nn.Sigmoid())), *_head(8)),
    "convnext": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 4, 4), ChannelsLast(nn.LayerNorm(8)),
        Sum(nn.Conv2d(8, 8, 7, padding=3, groups=8),
            ChannelsLast(nn.LayerNorm(8), nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))), *_head(8)),
    "shufflenet": lambda: nn.Sequential(
        _conv(3, 8, 3, 2), Shuffle(_conv(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.BatchNorm2d(4)),
        nn.PReLU(8), *_head(8)),
    "unet": lambda: nn.Sequential(
        _conv(3, 8, act=nn.LeakyReLU(0.1)),
        Join(nn.Identity(), nn.Sequential(nn.MaxPool2d(2), _conv(8, 8), nn.ConvTranspose2d(8, 8, 2, 2))),
        _conv(16, 8), nn.Conv2d(8, 2, 1)),
    "segmenter": lambda: nn.Sequential(
        nn.ReflectionPad2d(1), nn.Conv2d(3, 8, 3, 2), nn.GroupNorm(2, 8), nn.Mish(), Resized("bilinear", 2.0),
        nn.Conv2d(8, 4, 3, padding=2, dilation=2), nn.InstanceNorm2d(4, affine=True), nn.ELU(), Resized("nearest", 2.0),
        nn.Softmax(1)),
}  # fmt: skip


# Networks that `cnnc import` cannot write as `.cnn` yet: weights of products of matrices, slices to the end, and factors by
# channel stand in them without a layer.
UNSAID = frozenset({"convnext", "shufflenet", "segmenter"})


def module(name: str, training: bool = False) -> nn.Module:
    """The network with statistics that are none of its first ones."""
    torch.manual_seed(0)
    made = NETWORKS[name]().train()
    with torch.no_grad():
        for _ in range(2):
            made(torch.randn(4, 3, 16, 16) * 2 + 1)
    return made.train(training)


def exported(made: nn.Module, path: Path, opset: int | None, training: bool = False) -> None:
    """opset: of the older exporter; None for the newer one. Both leave the batch open."""
    x = torch.randn(2, 3, 16, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if opset is None:
            dims = ({0: torch.export.Dim("N")},)
            torch.onnx.export(made, (x,), path, dynamo=True, dynamic_shapes=dims, external_data=False, verbose=False)
            return
        mode = torch.onnx.TrainingMode.TRAINING if training else torch.onnx.TrainingMode.EVAL
        names: Any = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": {"x": {0: "N"}}}
        torch.onnx.export(
            made,
            (x,),
            str(path),
            dynamo=False,
            opset_version=opset,
            training=mode,
            do_constant_folding=not training,
            **names,
        )


def check(made: nn.Module, path: Path, unsaid: bool = False) -> str:
    """The text of a file, as `cnnc import` writes it. AssertionError where it is none, or its numbers are others.
    unsaid: it is the IR's, since no layer says a part of it.
    """
    network = cnnc.load(path)
    text, why = written(network)
    assert (why is not None) == unsaid, why
    x = torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        expected = made(x).numpy()
    networks = [network]
    if not unsaid:
        networks.append(cnnc.parse(text))
        for name, value in network.weights.items():
            networks[1].weights[name] = value
    for net in networks:
        found = cnnc.compile(net, target="reference")(x.numpy())
        assert isinstance(found, np.ndarray)
        apart = np.abs(found - expected).max()
        assert apart <= NEAR * np.abs(expected).max(), f"{apart:.2g} of {np.abs(expected).max():.2g}"
    return text


def all_cases() -> Iterator[tuple[str, int | None, bool]]:
    for name in NETWORKS:
        yield from ((name, opset, False) for opset in OPSETS)
        yield name, 17, True
        if find_spec("onnxscript"):
            yield name, None, False  # it exports for inference alone


def main(names: Sequence[str]) -> int:
    failed = 0
    for name, opset, training in all_cases():
        if names and name not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            made, path = module(name, training), Path(folder) / "net.onnx"
            what = f"{name:13}{f'opset {opset}' if opset else 'newer':10}{'training' if training else ''}"
            try:
                sys.stdout, out = io.StringIO(), sys.stdout
                try:
                    exported(made, path, opset, training)
                finally:
                    sys.stdout = out
            except Exception as e:
                print(f"{what}: PyTorch does not export it: {str(e).splitlines()[0][:100] if str(e) else e!r}")
                continue
            try:
                text = check(made, path, name in UNSAID)
                print(f"{what}: {len(text.splitlines())} lines")
            except (AssertionError, cnnc.CnncError) as e:
                failed += 1
                print(f"{what}: {' '.join(str(e).split())[:300]}", flush=True)
    print(f"{failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
