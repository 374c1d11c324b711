"""Small networks that several tests share."""

from __future__ import annotations

from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"

# Everything that lowering has to deal with, small: a plain first convolution, odd channels, residual, branches, groups,
# pooling, two outputs.
MIXED = """
block unit(x, width, stride = 1) {
    main = x -> conv(width, 3, stride=stride, padding=1, bias=false) as conv1 -> batchnorm as bn1 -> relu
             -> conv(width, 3, padding=1, bias=false) as conv2 -> batchnorm as bn2
    skip = x
    if stride != 1 or x.channels != width {
        skip = x -> conv(width, 1, stride=stride, bias=false) as down -> batchnorm as downbn
    }
    return main + skip -> relu
}
model mixed(classes = 5) {
    input image: f32[N, 3, 19, 17]
    x = image -> conv(18, 5, stride=2, padding=2) as stem -> relu -> maxpool(3, stride=2, padding=1)
    x = x -> unit(18) as unit1 -> unit(35, stride=2) as unit2
    a = x -> conv(33, 3, padding=[[1, 1], [0, 2]]) as left -> sigmoid
    b = x -> conv(35, 1, groups=5) as grouped -> tanh
    c = x -> avgpool(3, stride=1, padding=1)
    y = concat([a, b, c])
    features = y -> global_avgpool -> flatten
    logits = features -> dropout(0.3) -> linear(23) as hidden -> relu -> linear(classes) as out
    return logits
}
"""
LENET = EXAMPLES / "lenet5_relu.cnn"

# every example with the smallest parameters that show all of it
ALL_EXAMPLES = [
    ("lenet5.cnn", {}),
    ("lenet5_relu.cnn", {}),
    ("alexnet.cnn", {}),
    ("alexnet.cnn", {"original": True}),
    ("alexnet.cnn", {"size": 227}),
    ("mobilenetv2.cnn", {}),
    *(("vgg.cnn", {"depth": d}) for d in (11,)),
    *(("resnet.cnn", {"depth": d}) for d in (18, 50)),
]
