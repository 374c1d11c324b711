"""MobileNetV3, EfficientNet and ShuffleNetV2 as PyTorch modules, with torchvision's names of parameters. Needs torch."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


def unit(
    a: int, b: int, kernel: int, stride: int = 1, groups: int = 1, act: type[nn.Module] | None = nn.ReLU, **bn: float
):
    """torchvision's Conv2dNormActivation."""
    layers = [nn.Conv2d(a, b, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(b, **bn)]
    return nn.Sequential(*layers, *([act()] if act else []))


class Squeeze(nn.Module):
    def __init__(self, channels: int, width: int, act, gate) -> None:
        super().__init__()
        self.fc1, self.fc2, self.act, self.gate = (
            nn.Conv2d(channels, width, 1),
            nn.Conv2d(width, channels, 1),
            act,
            gate,
        )

    def forward(self, x):
        return x * self.gate(self.fc2(self.act(self.fc1(x.mean((2, 3), keepdim=True)))))


class Inverted(nn.Module):
    """squeeze: how wide, or 0 for none."""

    def __init__(
        self, a: int, hidden: int, b: int, kernel: int, stride: int, squeeze: int, act, gates, **bn: float
    ) -> None:
        super().__init__()
        layers = [unit(a, hidden, 1, act=act, **bn)] if hidden != a else []
        layers.append(unit(hidden, hidden, kernel, stride, hidden, act, **bn))
        layers += [Squeeze(hidden, squeeze, *gates)] if squeeze else []
        self.block, self.residual = nn.Sequential(*layers, unit(hidden, b, 1, act=None, **bn)), stride == 1 and a == b

    def forward(self, x):
        return x + self.block(x) if self.residual else self.block(x)


LARGE = [
    (3, 16, 16, 0, "r", 1), (3, 64, 24, 0, "r", 2), (3, 72, 24, 0, "r", 1), (5, 72, 40, 24, "r", 2), (5, 120, 40, 32, "r", 1),
    (5, 120, 40, 32, "r", 1), (3, 240, 80, 0, "h", 2), (3, 200, 80, 0, "h", 1), (3, 184, 80, 0, "h", 1), (3, 184, 80, 0, "h", 1),
    (3, 480, 112, 120, "h", 1), (3, 672, 112, 168, "h", 1), (5, 672, 160, 168, "h", 2), (5, 960, 160, 240, "h", 1),
    (5, 960, 160, 240, "h", 1),
]  # fmt: skip


SMALL = [
    (3, 16, 16, 8, "r", 2), (3, 72, 24, 0, "r", 2), (3, 88, 24, 0, "r", 1), (5, 96, 40, 24, "h", 2), (5, 240, 40, 64, "h", 1),
    (5, 240, 40, 64, "h", 1), (5, 120, 48, 32, "h", 1), (5, 144, 48, 40, "h", 1), (5, 288, 96, 72, "h", 2),
    (5, 576, 96, 144, "h", 1), (5, 576, 96, 144, "h", 1),
]  # fmt: skip


class MobileNetV3(nn.Module):
    def __init__(self, plan, last: int) -> None:
        super().__init__()
        bn, channels = {"eps": 1e-3, "momentum": 0.01}, 16
        layers = [unit(3, 16, 3, 2, act=nn.Hardswish, **bn)]
        for kernel, hidden, width, squeeze, act, stride in plan:
            acts = {"r": nn.ReLU, "h": nn.Hardswish}
            gates = functional.relu, functional.hardsigmoid
            layers.append(Inverted(channels, hidden, width, kernel, stride, squeeze, acts[act], gates, **bn))
            channels = width
        layers.append(unit(channels, 6 * channels, 1, act=nn.Hardswish, **bn))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(6 * channels, last), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(last, 1000)
        )

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


class EfficientNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        plan = [
            (1, 3, 1, 16, 1),
            (6, 3, 2, 24, 2),
            (6, 5, 2, 40, 2),
            (6, 3, 2, 80, 3),
            (6, 5, 1, 112, 3),
            (6, 5, 2, 192, 4),
        ]
        stages, channels = [unit(3, 32, 3, 2, act=nn.SiLU)], 32
        for expand, kernel, stride, width, repeats in [*plan, (6, 3, 1, 320, 1)]:
            blocks = []
            for j in range(repeats):
                gates, s = (functional.silu, torch.sigmoid), stride if j == 0 else 1
                blocks.append(Inverted(channels, channels * expand, width, kernel, s, channels // 4, nn.SiLU, gates))
                channels = width
            stages.append(nn.Sequential(*blocks))
        self.features = nn.Sequential(*stages, unit(320, 1280, 1, act=nn.SiLU))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


class Shuffled(nn.Module):
    def __init__(self, a: int, b: int, stride: int) -> None:
        super().__init__()
        half = b // 2

        def end(a: int) -> list[nn.Module]:
            depthwise = nn.Conv2d(a, a, 3, stride, 1, groups=a, bias=False)
            return [depthwise, nn.BatchNorm2d(a), nn.Conv2d(a, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU()]

        if stride > 1:
            self.branch1 = nn.Sequential(*end(a))
        self.branch2 = nn.Sequential(*unit(a if stride > 1 else half, half, 1), *end(half))

    def forward(self, x):
        kept, y = (self.branch1(x), x) if hasattr(self, "branch1") else x.chunk(2, 1)
        return functional.channel_shuffle(torch.cat([kept, self.branch2(y)], 1), 2)


class ShuffleNetV2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, channels = unit(3, 24, 3, 2), 24
        for i, (width, repeats) in enumerate(((116, 4), (232, 8), (464, 4)), 2):
            blocks = [Shuffled(width if j else channels, width, 1 if j else 2) for j in range(repeats)]
            setattr(self, f"stage{i}", nn.Sequential(*blocks))
            channels = width
        self.conv5, self.fc = unit(channels, 1024, 1), nn.Linear(1024, 1000)

    def forward(self, x):
        x = functional.max_pool2d(self.conv1(x), 3, 2, 1)
        return self.fc(self.conv5(self.stage4(self.stage3(self.stage2(x)))).mean((2, 3)))
