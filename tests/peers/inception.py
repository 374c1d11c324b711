"""GoogLeNet and Inception-v3 as PyTorch modules, with torchvision's names of parameters. Needs torch."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Basic(nn.Module):
    """Convolution, norm and ReLU as GoogLeNet and Inception-v3 have them."""

    def __init__(self, a: int, b: int, kernel, stride=1, padding=0) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(a, b, kernel, stride, padding, bias=False), nn.BatchNorm2d(b, eps=1e-3)

    def forward(self, x):
        return functional.relu(self.bn(self.conv(x)))


class Branches(nn.Module):
    """Named chains of modules, whose results are joined. Names that begin with `_` only gather others."""

    def __init__(self, **chains: nn.Module) -> None:
        super().__init__()
        for name, module in chains.items():
            setattr(self, name, module)

    def forward(self, x):
        return torch.cat([module(x) for module in self.children()], 1)


def google(a: int, c1: int, c3r: int, c3: int, c5r: int, c5: int, cp: int) -> Branches:
    return Branches(
        branch1=Basic(a, c1, 1),
        branch2=nn.Sequential(Basic(a, c3r, 1), Basic(c3r, c3, 3, padding=1)),
        branch3=nn.Sequential(Basic(a, c5r, 1), Basic(c5r, c5, 3, padding=1)),
        branch4=nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), Basic(a, cp, 1)),
    )


class GoogLeHead(nn.Module):
    def __init__(self, a: int, features: int, classes: int) -> None:
        super().__init__()
        self.conv, self.fc1, self.fc2 = Basic(a, 128, 1), nn.Linear(features, 1024), nn.Linear(1024, classes)

    def forward(self, x):
        return self.fc2(functional.relu(self.fc1(self.conv(functional.avg_pool2d(x, 5, 3)).flatten(1))))


class GoogLeNet(nn.Module):
    def __init__(self, size: int = 224, classes: int = 1000) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = Basic(3, 64, 7, 2, 3), Basic(64, 64, 1), Basic(64, 192, 3, padding=1)
        self.inception3a, self.inception3b = (
            google(192, 64, 96, 128, 16, 32, 32),
            google(256, 128, 128, 192, 32, 96, 64),
        )
        self.inception4a, self.inception4b = (
            google(480, 192, 96, 208, 16, 48, 64),
            google(512, 160, 112, 224, 24, 64, 64),
        )
        self.inception4c, self.inception4d = (
            google(512, 128, 128, 256, 24, 64, 64),
            google(512, 112, 144, 288, 32, 64, 64),
        )
        self.inception4e, self.inception5a = (google(a, 256, 160, 320, 32, 128, 128) for a in (528, 832))
        self.inception5b = google(832, 384, 192, 384, 48, 128, 128)
        left = (-(-size // 16) - 5) // 3 + 1
        self.aux1, self.aux2 = (GoogLeHead(a, 128 * left**2, classes) for a in (512, 528))
        self.fc = nn.Linear(1024, classes)

    def forward(self, x):
        def pool(x):
            return functional.max_pool2d(x, 3, 2, ceil_mode=True)

        x = pool(self.inception3b(self.inception3a(pool(self.conv3(self.conv2(pool(self.conv1(x))))))))
        a = self.inception4a(x)
        b = self.inception4d(self.inception4c(self.inception4b(a)))
        x = functional.max_pool2d(self.inception4e(b), 2, 2, ceil_mode=True)
        x = self.inception5b(self.inception5a(x))
        return self.fc(x.mean((2, 3))), self.aux1(a), self.aux2(b)


class InceptionA(nn.Module):
    def __init__(self, a: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1, self.branch_pool = Basic(a, 64, 1), Basic(a, pooled, 1)
        self.branch5x5_1, self.branch5x5_2 = Basic(a, 48, 1), Basic(48, 64, 5, padding=2)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Basic(a, 64, 1), Basic(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Basic(96, 96, 3, padding=1)

    def forward(self, x):
        b = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        pooled = self.branch_pool(functional.avg_pool2d(x, 3, 1, 1))
        return torch.cat([self.branch1x1(x), self.branch5x5_2(self.branch5x5_1(x)), b, pooled], 1)


class InceptionB(nn.Module):
    def __init__(self, a: int) -> None:
        super().__init__()
        self.branch3x3, self.branch3x3dbl_1 = Basic(a, 384, 3, 2), Basic(a, 64, 1)
        self.branch3x3dbl_2, self.branch3x3dbl_3 = Basic(64, 96, 3, padding=1), Basic(96, 96, 3, 2)

    def forward(self, x):
        b = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), b, functional.max_pool2d(x, 3, 2)], 1)


FLAT, TALL = ((1, 7), 1, (0, 3)), ((7, 1), 1, (3, 0))


class InceptionC(nn.Module):
    def __init__(self, a: int, c: int) -> None:
        super().__init__()
        self.branch1x1, self.branch_pool, self.branch7x7_1 = Basic(a, 192, 1), Basic(a, 192, 1), Basic(a, c, 1)
        self.branch7x7_2, self.branch7x7_3, self.branch7x7dbl_1 = (
            Basic(c, c, *FLAT),
            Basic(c, 192, *TALL),
            Basic(a, c, 1),
        )
        self.branch7x7dbl_2, self.branch7x7dbl_3 = Basic(c, c, *TALL), Basic(c, c, *FLAT)
        self.branch7x7dbl_4, self.branch7x7dbl_5 = Basic(c, c, *TALL), Basic(c, 192, *FLAT)

    def forward(self, x):
        b = x
        for i in range(1, 6):
            b = getattr(self, f"branch7x7dbl_{i}")(b)
        a = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        return torch.cat([self.branch1x1(x), a, b, self.branch_pool(functional.avg_pool2d(x, 3, 1, 1))], 1)


class InceptionD(nn.Module):
    def __init__(self, a: int) -> None:
        super().__init__()
        self.branch3x3_1, self.branch3x3_2, self.branch7x7x3_1 = (
            Basic(a, 192, 1),
            Basic(192, 320, 3, 2),
            Basic(a, 192, 1),
        )
        self.branch7x7x3_2, self.branch7x7x3_3 = Basic(192, 192, *FLAT), Basic(192, 192, *TALL)
        self.branch7x7x3_4 = Basic(192, 192, 3, 2)

    def forward(self, x):
        b = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), b, functional.max_pool2d(x, 3, 2)], 1)


class InceptionE(nn.Module):
    def __init__(self, a: int) -> None:
        super().__init__()
        self.branch1x1, self.branch3x3_1, self.branch_pool = Basic(a, 320, 1), Basic(a, 384, 1), Basic(a, 192, 1)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Basic(a, 448, 1), Basic(448, 384, 3, padding=1)
        for name in ("branch3x3_2", "branch3x3dbl_3"):
            setattr(self, f"{name}a", Basic(384, 384, (1, 3), 1, (0, 1)))
            setattr(self, f"{name}b", Basic(384, 384, (3, 1), 1, (1, 0)))

    def forward(self, x):
        a, b = self.branch3x3_1(x), self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        both = [self.branch3x3_2a(a), self.branch3x3_2b(a), self.branch3x3dbl_3a(b), self.branch3x3dbl_3b(b)]
        return torch.cat([self.branch1x1(x), *both, self.branch_pool(functional.avg_pool2d(x, 3, 1, 1))], 1)


class Inception3(nn.Module):
    def __init__(self, aux: bool = True) -> None:
        super().__init__()
        self.Conv2d_1a_3x3, self.Conv2d_2a_3x3 = Basic(3, 32, 3, 2), Basic(32, 32, 3)
        self.Conv2d_2b_3x3, self.Conv2d_3b_1x1 = Basic(32, 64, 3, padding=1), Basic(64, 80, 1)
        self.Conv2d_4a_3x3 = Basic(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = InceptionA(192, 32), InceptionA(256, 64), InceptionA(288, 64)
        self.Mixed_6a, self.Mixed_6b, self.Mixed_6c = InceptionB(288), InceptionC(768, 128), InceptionC(768, 160)
        self.Mixed_6d, self.Mixed_6e = InceptionC(768, 160), InceptionC(768, 192)
        self.Mixed_7a, self.Mixed_7b, self.Mixed_7c = InceptionD(768), InceptionE(1280), InceptionE(2048)
        self.fc = nn.Linear(2048, 1000)
        if aux:
            head = {"conv0": Basic(768, 128, 1), "conv1": Basic(128, 768, 5), "fc": nn.Linear(768, 1000)}
            self.AuxLogits = nn.ModuleDict(head)

    def forward(self, x):
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = functional.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(functional.max_pool2d(x, 3, 2))), 3, 2)
        for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e"):
            x = getattr(self, f"Mixed_{name}")(x)
        y = self.fc(self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x))).mean((2, 3)))
        if not hasattr(self, "AuxLogits"):
            return y
        head = self.AuxLogits
        return y, head["fc"](head["conv1"](head["conv0"](functional.avg_pool2d(x, 5, 3))).mean((2, 3)))
