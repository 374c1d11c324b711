"""The examples' networks as PyTorch modules, with torchvision's parameter names. Needs torch."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class LeNet(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 20, 5, padding=2), nn.Conv2d(20, 50, 5, padding=2)
        self.fc1, self.fc2 = nn.Linear(2450, 500), nn.Linear(500, classes)

    def forward(self, x):
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        return self.fc2(functional.relu(self.fc1(x.flatten(1))))


def head(inputs: int, dropout_first: bool) -> nn.Sequential:
    first, second = [nn.Linear(inputs, 4096), nn.ReLU()], [nn.Linear(4096, 4096), nn.ReLU()]
    if dropout_first:
        return nn.Sequential(nn.Dropout(), *first, nn.Dropout(), *second, nn.Linear(4096, 1000))
    return nn.Sequential(*first, nn.Dropout(), *second, nn.Dropout(), nn.Linear(4096, 1000))


class AlexNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, 4, 2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
        )
        self.classifier = head(9216, True)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


PLANS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


class VGG(nn.Module):
    def __init__(self, depth: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width, repeat in zip((64, 128, 256, 512, 512), PLANS[depth], strict=True):
            for _ in range(repeat):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features, self.classifier = nn.Sequential(*layers), head(25088, False)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


class Unit(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        outputs = 4 * width if bottleneck else width
        shapes = (
            [(inputs, width, 1, 1), (width, width, 3, stride), (width, outputs, 1, 1)]
            if bottleneck
            else [(inputs, width, 3, stride), (width, width, 3, 1)]
        )
        self.count = len(shapes)
        for i, (a, b, k, s) in enumerate(shapes, 1):
            setattr(self, f"conv{i}", nn.Conv2d(a, b, k, s, k // 2, bias=False))
            setattr(self, f"bn{i}", nn.BatchNorm2d(b))
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = functional.relu(y) if i < self.count else y
        return functional.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


RESNETS = {
    18: (False, (2, 2, 2, 2)),
    34: (False, (3, 4, 6, 3)),
    50: (True, (3, 4, 6, 3)),
    101: (True, (3, 4, 23, 3)),
    152: (True, (3, 8, 36, 3)),
}


class ResNet(nn.Module):
    def __init__(self, depth: int) -> None:
        super().__init__()
        bottleneck, repeats = RESNETS[depth]
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        channels = 64
        for stage, repeat in enumerate(repeats):
            units = []
            for j in range(repeat):
                units.append(Unit(channels, 64 << stage, 2 if j == 0 and stage else 1, bottleneck))
                channels = (256 if bottleneck else 64) << stage
            setattr(self, f"layer{stage + 1}", nn.Sequential(*units))
        self.fc = nn.Linear(channels, 1000)

    def forward(self, x):
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return self.fc(x.mean((2, 3)))


class Inverted(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = inputs * expand

        def unit(a: int, b: int, kernel: int, stride: int, groups: int) -> nn.Sequential:
            convolution = nn.Conv2d(a, b, kernel, stride, kernel // 2, groups=groups, bias=False)
            return nn.Sequential(convolution, nn.BatchNorm2d(b), nn.ReLU6())

        layers: list[nn.Module] = [unit(inputs, hidden, 1, 1, 1)] if expand != 1 else []
        layers += [
            unit(hidden, hidden, 3, stride, hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        self.conv, self.residual = nn.Sequential(*layers), stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        plan = [
            (1, 16, 1, 1),
            (6, 24, 2, 2),
            (6, 32, 3, 2),
            (6, 64, 4, 2),
            (6, 96, 3, 1),
            (6, 160, 3, 2),
            (6, 320, 1, 1),
        ]
        layers: list[nn.Module] = [nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6())]
        channels = 32
        for expand, width, repeats, stride in plan:
            for j in range(repeats):
                layers.append(Inverted(channels, width, stride if j == 0 else 1, expand))
                channels = width
        layers.append(nn.Sequential(nn.Conv2d(channels, 1280, 1, bias=False), nn.BatchNorm2d(1280), nn.ReLU6()))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


# name: (module, file of the example, its parameters)
NETWORKS = {
    "lenet": (LeNet, "lenet5_relu.cnn", {}),
    "alexnet": (AlexNet, "alexnet.cnn", {}),
    "mobilenetv2": (MobileNetV2, "mobilenetv2.cnn", {}),
    **{f"vgg{d}": (lambda d=d: VGG(d), "vgg.cnn", {"depth": d}) for d in PLANS},
    **{f"resnet{d}": (lambda d=d: ResNet(d), "resnet.cnn", {"depth": d}) for d in RESNETS},
}


def build(name: str, seed: int = 0) -> nn.Module:
    """A network with weights drawn from a seed, and running statistics that are not those of a fresh one."""
    torch.manual_seed(seed)
    module = NETWORKS[name][0]()
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.uniform_(-0.1, 0.1)
            m.running_var.uniform_(0.8, 1.2)
    return module
