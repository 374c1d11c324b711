"""The examples' networks as PyTorch modules, with the parameter names that torchvision, or the code that a file
names, gives them. Needs torch.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from tests.peers.inception import GoogLeNet, Inception3
from tests.peers.mobile import LARGE, SMALL, EfficientNet, MobileNetV3, ShuffleNetV2, unit


class Fire(nn.Module):
    def __init__(self, a: int, width: int) -> None:
        super().__init__()
        self.squeeze, self.expand1x1 = nn.Conv2d(a, width, 1), nn.Conv2d(width, 4 * width, 1)
        self.expand3x3 = nn.Conv2d(width, 4 * width, 3, padding=1)

    def forward(self, x):
        x = functional.relu(self.squeeze(x))
        return functional.relu(torch.cat([self.expand1x1(x), self.expand3x3(x)], 1))


class SqueezeNet(nn.Module):
    def __init__(self, version: float) -> None:
        super().__init__()
        pool, channels = (lambda: nn.MaxPool2d(3, 2, ceil_mode=True)), 96 if version == 1.0 else 64
        layers: list[nn.Module] = [
            nn.Conv2d(3, 96, 7, 2) if version == 1.0 else nn.Conv2d(3, 64, 3, 2),
            nn.ReLU(),
            pool(),
        ]
        for width in (
            (16, 16, 32, 0, 32, 48, 48, 64, 0, 64) if version == 1.0 else (16, 16, 0, 32, 32, 0, 48, 48, 64, 64)
        ):
            layers.append(Fire(channels, width) if width else pool())
            channels = 8 * width or channels
        self.features, self.classifier = nn.Sequential(*layers), nn.Sequential(nn.Dropout(), nn.Conv2d(512, 1000, 1))

    def forward(self, x):
        return functional.relu(self.classifier(self.features(x))).mean((2, 3))


class Dense(nn.Module):
    def __init__(self, a: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(a), nn.Conv2d(a, 4 * growth, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(4 * growth), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x):
        y = self.conv1(functional.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(functional.relu(self.norm2(y)))], 1)


class DenseNet(nn.Module):
    def __init__(self, repeats=(6, 12, 24, 16), growth: int = 32) -> None:
        super().__init__()
        width = 2 * growth
        parts: dict[str, nn.Module] = {
            "conv0": nn.Conv2d(3, width, 7, 2, 3, bias=False),
            "norm0": nn.BatchNorm2d(width),
            "relu0": nn.ReLU(),
            "pool0": nn.MaxPool2d(3, 2, 1),
        }
        for i, repeat in enumerate(repeats, 1):
            layers = OrderedDict((f"denselayer{j + 1}", Dense(width + j * growth, growth)) for j in range(repeat))
            parts[f"denseblock{i}"] = nn.Sequential(layers)
            width += repeat * growth
            if i < 4:
                pieces = {
                    "norm": nn.BatchNorm2d(width),
                    "relu": nn.ReLU(),
                    "conv": nn.Conv2d(width, width // 2, 1, bias=False),
                }
                parts[f"transition{i}"] = nn.Sequential(OrderedDict(**pieces, pool=nn.AvgPool2d(2)))
                width //= 2
        self.features = nn.Sequential(OrderedDict(**parts, norm5=nn.BatchNorm2d(width)))
        self.classifier = nn.Linear(width, 1000)

    def forward(self, x):
        return self.classifier(functional.relu(self.features(x)).mean((2, 3)))


class Bottleneck(nn.Module):
    def __init__(self, a: int, width: int, inner: int, groups: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(a, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, groups=groups, bias=False)
        self.bn2, self.conv3 = nn.BatchNorm2d(inner), nn.Conv2d(inner, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        if stride != 1 or a != 4 * width:
            self.downsample = unit(a, 4 * width, 1, stride, act=None)

    def forward(self, x):
        y = functional.relu(self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x))))))
        return functional.relu(self.bn3(self.conv3(y)) + (self.downsample(x) if hasattr(self, "downsample") else x))


class Stages(nn.Module):
    """A stem, four or three stages of blocks, and a linear layer."""

    def __init__(self, stem, stages, features: int, classes: int, pool: bool = True) -> None:
        super().__init__()
        self.conv1, self.bn1 = stem
        self.pool, self.count = pool, len(stages)
        for i, blocks in enumerate(stages, 1):
            setattr(self, f"layer{i}", nn.Sequential(*blocks))
        self.fc = nn.Linear(features, classes)

    def forward(self, x):
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.max_pool2d(x, 3, 2, 1) if self.pool else x
        for i in range(self.count):
            x = getattr(self, f"layer{i + 1}")(x)
        return self.fc(x.mean((2, 3)))


def resnext() -> Stages:
    stages, channels = [], 64
    for i, repeat in enumerate((3, 4, 6, 3)):
        blocks = []
        for j in range(repeat):
            blocks.append(Bottleneck(channels, 64 << i, 128 << i, 32, 2 if i and not j else 1))
            channels = 256 << i
        stages.append(blocks)
    return Stages((nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)), stages, 2048, 1000)


class Residual(nn.Module):
    """Two 3x3 convolutions and a skip. In three dimensions each convolution is with its norm in a sequence, as in r3d_18."""

    def __init__(self, a: int, b: int, stride: int, space: int) -> None:
        super().__init__()
        conv, norm = (nn.Conv2d, nn.BatchNorm2d) if space == 2 else (nn.Conv3d, nn.BatchNorm3d)
        layers = conv(a, b, 3, stride, 1, bias=False), norm(b), conv(b, b, 3, 1, 1, bias=False), norm(b)
        if space == 2:
            self.conv1, self.bn1, self.conv2, self.bn2 = layers
        else:
            self.conv1, self.conv2 = nn.Sequential(*layers[:2], nn.ReLU()), nn.Sequential(*layers[2:])
        if stride != 1 or a != b:
            self.downsample = nn.Sequential(conv(a, b, 1, stride, bias=False), norm(b))

    def forward(self, x):
        if hasattr(self, "bn1"):
            y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        else:
            y = self.conv2(self.conv1(x))
        return functional.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


def residuals(width: int, repeats, space: int):
    found, channels = [], width
    for i, repeat in enumerate(repeats):
        found.append(
            [
                Residual(channels if not j else width << i, width << i, 2 if i and not j else 1, space)
                for j in range(repeat)
            ]
        )
        channels = width << i
    return found


def resnet_cifar() -> Stages:
    stem = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
    return Stages(stem, residuals(16, (3, 3, 3), 2), 64, 10, pool=False)


class R3D(nn.Module):
    def __init__(self, width: int = 64) -> None:
        super().__init__()
        first = nn.Conv3d(3, width, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False)
        self.stem = nn.Sequential(first, nn.BatchNorm3d(width), nn.ReLU())
        for i, blocks in enumerate(residuals(width, (2, 2, 2, 2), 3), 1):
            setattr(self, f"layer{i}", nn.Sequential(*blocks))
        self.fc = nn.Linear(8 * width, 400)

    def forward(self, x):
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(x)))))
        return self.fc(x.mean((2, 3, 4)))


class Named(nn.Module):
    """Modules by name, and what is called of them and of functions, in order."""

    def __init__(self, modules: dict[str, nn.Module], order) -> None:
        super().__init__()
        for name, module in modules.items():
            setattr(self, name, module)
        self.order = order

    def forward(self, x):
        for step in self.order:
            x = (getattr(self, step) if isinstance(step, str) else step)(x)
        return x


relu, flat = functional.relu, (lambda x: x.flatten(1))


def zfnet(features: int) -> Named:
    sizes = {"conv1": (3, 96, 7, 2, 1), "conv2": (96, 256, 5, 2), "conv3": (256, 384, 3, 1, 1)}
    sizes |= {"conv4": (384, 384, 3, 1, 1), "conv5": (384, 256, 3, 1, 1)}
    lines = {"fc6": (features, 4096), "fc7": (4096, 4096), "fc8": (4096, 1000)}
    modules = {k: nn.Conv2d(*v) for k, v in sizes.items()} | {k: nn.Linear(*v) for k, v in lines.items()}
    pool, norm = (lambda x: functional.max_pool2d(x, 3, 2, 1)), nn.LocalResponseNorm(5, k=2)
    first = ["conv1", relu, pool, norm, "conv2", relu, pool, norm, "conv3", relu, "conv4", relu, "conv5", relu]
    return Named(modules, [*first, lambda x: functional.max_pool2d(x, 3, 2), flat, "fc6", relu, "fc7", relu, "fc8"])


def convnetjs() -> Named:
    convolutions = [nn.Conv2d(a, b, 5, padding=2) for a, b in ((3, 16), (16, 20), (20, 20))]
    modules = {f"conv{i}": c for i, c in enumerate(convolutions, 1)} | {"fc": nn.Linear(320, 10)}
    pool = lambda x: functional.max_pool2d(x, 2)  # noqa: E731
    return Named(modules, [s for i in (1, 2, 3) for s in (f"conv{i}", relu, pool)] + [flat, "fc"])


def m5(width: int = 32) -> Named:
    sizes = ((1, width, 80, 16), (width, width, 3), (width, 2 * width, 3), (2 * width, 2 * width, 3))
    modules: dict[str, nn.Module] = {"fc1": nn.Linear(2 * width, 35)}
    for i, s in enumerate(sizes, 1):
        modules |= {f"conv{i}": nn.Conv1d(*s), f"bn{i}": nn.BatchNorm1d(s[1])}
    pool = lambda x: functional.max_pool1d(x, 4)  # noqa: E731
    return Named(
        modules, [s for i in range(1, 5) for s in (f"conv{i}", f"bn{i}", relu, pool)] + [lambda x: x.mean(2), "fc1"]
    )


class Double(nn.Module):
    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(*unit(a, b, 3), *unit(b, b, 3))

    def forward(self, x):
        return self.double_conv(x)


class UNet(nn.Module):
    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.inc, self.depth = Double(3, width), depth
        for i in range(depth):
            down = {"maxpool_conv": nn.Sequential(nn.MaxPool2d(2), Double(width << i, width << (i + 1)))}
            setattr(self, f"down{i + 1}", nn.ModuleDict(down))
            a = width << (depth - i)
            parts = {"up": nn.ConvTranspose2d(a, a // 2, 2, 2), "conv": Double(a, a // 2)}
            setattr(self, f"up{i + 1}", nn.ModuleDict(parts))
        self.outc = nn.ModuleDict({"conv": nn.Conv2d(width, 2, 1)})

    def forward(self, x):
        seen = [self.inc(x)]
        for i in range(self.depth):
            seen.append(getattr(self, f"down{i + 1}")["maxpool_conv"](seen[-1]))
        x = seen.pop()
        for i in range(self.depth):
            up = getattr(self, f"up{i + 1}")
            x = up["conv"](torch.cat([seen.pop(), up["up"](x)], 1))
        return self.outc["conv"](x)


class Detector(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        widths = [3, *(width << i for i in range(7)), width << 6]
        for i, (a, b) in enumerate(pairwise(widths), 1):
            parts = OrderedDict(
                conv=nn.Conv2d(a, b, 3, padding=1, bias=False), bn=nn.BatchNorm2d(b), act=nn.LeakyReLU(0.1)
            )
            setattr(self, f"layer{i}", nn.Sequential(parts))
        self.output = nn.Conv2d(width << 6, 125, 1)

    def forward(self, x):
        for i in range(1, 6):
            x = functional.max_pool2d(getattr(self, f"layer{i}")(x), 2)
        x = functional.max_pool2d(functional.pad(self.layer6(x), (0, 1, 0, 1), value=-torch.inf), 2, 1)
        return self.output(self.layer8(self.layer7(x)))


class ChannelNorm(nn.LayerNorm):
    """Over the channels of [N, C, H, W]."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Move(nn.Module):
    def __init__(self, *axes: int) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x):
        return x.permute(self.axes)


class Scaled(nn.Module):
    """ConvNeXt's block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = [Move(0, 2, 3, 1), nn.LayerNorm(width, 1e-6), nn.Linear(width, 4 * width), nn.GELU()]
        last = [nn.Linear(4 * width, width), Move(0, 3, 1, 2)]
        self.block = nn.Sequential(nn.Conv2d(width, width, 7, padding=3, groups=width), *inner, *last)
        self.layer_scale = nn.Parameter(torch.rand(width, 1, 1))  # more than 1e-6, so that blocks count

    def forward(self, x):
        return x + self.layer_scale * self.block(x)


class ConvNeXt(nn.Module):
    def __init__(self, repeats=(3, 3, 9, 3)) -> None:
        super().__init__()
        parts: list[nn.Module] = [nn.Sequential(nn.Conv2d(3, 96, 4, 4), ChannelNorm(96, 1e-6))]
        for i, repeat in enumerate(repeats):
            width = 96 << i
            if i:
                parts.append(nn.Sequential(ChannelNorm(width // 2, 1e-6), nn.Conv2d(width // 2, width, 2, 2)))
            parts.append(nn.Sequential(*(Scaled(width) for _ in range(repeat))))
        self.features = nn.Sequential(*parts)
        self.classifier = nn.Sequential(ChannelNorm(768, 1e-6), nn.Flatten(), nn.Linear(768, 1000))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3), keepdim=True))


# name: (module, file of the example, its parameters); sizes are as small as the networks allow
ZOO = {
    "googlenet": (lambda: GoogLeNet(96), "googlenet", {"aux": True, "size": 96}),
    "squeezenet1_0": (lambda: SqueezeNet(1.0), "squeezenet", {"version": 1.0, "size": 63}),
    "squeezenet1_1": (lambda: SqueezeNet(1.1), "squeezenet", {"size": 63}),
    "inception3": (lambda: Inception3(False), "inception3", {"size": 75}),
    "densenet121": (DenseNet, "densenet", {"size": 32}),
    "resnext50": (resnext, "resnext", {"size": 32}),
    "zfnet": (lambda: zfnet(1024), "zfnet", {"size": 100}),
    "resnet20": (resnet_cifar, "resnet_cifar", {}),
    "convnetjs": (convnetjs, "convnetjs", {}),
    "m5": (m5, "m5", {}),
    "r3d": (lambda: R3D(8), "r3d", {"width": 8, "size": 32, "frames": 8}),
    "mobilenetv3_large": (lambda: MobileNetV3(LARGE, 1280), "mobilenetv3", {"size": 64}),
    "mobilenetv3_small": (lambda: MobileNetV3(SMALL, 1024), "mobilenetv3", {"kind": "small", "size": 64}),
    "efficientnet_b0": (EfficientNet, "efficientnet", {"size": 64}),
    "convnext_tiny": (ConvNeXt, "convnext", {"size": 32}),
    "shufflenetv2": (ShuffleNetV2, "shufflenetv2", {"size": 64}),
    "unet": (lambda: UNet(4, 3), "unet", {"width": 4, "depth": 3, "size": 32}),
    "yolo": (lambda: Detector(4), "yolo", {"width": 4, "size": 96}),
}
