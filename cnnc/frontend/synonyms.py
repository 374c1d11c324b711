"""What layers are called elsewhere, and what to write here."""

from __future__ import annotations

import re

# other programs' names, without case, `_` and the number of dimensions
SAME = {
    "convtranspose": "conv_transpose", "transposedconv": "conv_transpose", "convolutiontranspose": "conv_transpose",
    "deconv": "conv_transpose", "deconvolution": "conv_transpose",
    "adaptiveavgpool": "adaptive_avgpool", "adaptivemaxpool": "adaptive_maxpool",
    "globalmaxpool": "global_maxpool", "globalmaxpooling": "global_maxpool", "lppool": "lppool", "maxunpool": "unpool",
    "upsample": "upsample", "upsampling": "upsample", "interpolate": "upsample", "resize": "upsample",
    "conv": "conv", "convolution": "conv", "batchnorm": "batchnorm", "batchnormalization": "batchnorm", "bn": "batchnorm",
    "layernormalization": "layernorm", "groupnormalization": "groupnorm", "instancenormalization": "instancenorm",
    "rmsnormalization": "rmsnorm",
    "linear": "linear", "dense": "linear", "fc": "linear", "fullyconnected": "linear", "gemm": "linear", "innerproduct": "linear",
    "maxpool": "maxpool", "maxpooling": "maxpool", "avgpool": "avgpool", "avgpooling": "avgpool", "averagepool": "avgpool",
    "averagepooling": "avgpool", "globalavgpool": "global_avgpool", "globalaveragepool": "global_avgpool",
    "globalaveragepooling": "global_avgpool", "globalavgpooling": "global_avgpool", "gap": "global_avgpool",
    "dropout": "dropout", "relu": "relu", "relu6": "relu6", "leakyrelu": "leaky_relu",
    "lrelu": "leaky_relu", "elu": "elu", "selu": "selu", "silu": "silu", "swish": "silu", "sigmoid": "sigmoid",
    "logistic": "sigmoid", "tanh": "tanh", "softmax": "softmax", "concat": "concat", "concatenate": "concat", "cat": "concat",
    "lrn": "lrn", "localresponsenorm": "lrn", "flatten": "flatten", "exp": "exp", "log": "log", "sqrt": "sqrt", "abs": "abs",
    "gelu": "gelu", "celu": "celu", "mish": "mish", "softplus": "softplus", "softsign": "softsign", "hardswish": "hardswish",
    "hardsigmoid": "hardsigmoid", "hardtanh": "hardtanh", "clip": "clamp", "logsigmoid": "log_sigmoid", "power": "pow",
    "prelu": "prelu", "logsoftmax": "log_softmax", "glu": "glu", "maxout": "maxout",
    "droppath": "drop_path", "stochasticdepth": "drop_path",
    "mean": "mean", "reducemean": "mean", "sum": "sum", "reducesum": "sum",
    "reshape": "reshape", "view": "reshape", "transpose": "transpose", "permute": "transpose", "squeeze": "squeeze",
    "unsqueeze": "unsqueeze", "expanddims": "unsqueeze", "expand": "expand", "broadcastto": "expand", "split": "split",
    "chunk": "split", "stack": "stack", "pad": "pad", "zeropad": "pad", "constantpad": "pad", "flip": "flip", "reverse": "flip",
    "gather": "gather", "indexselect": "gather", "repeat": "repeat", "tile": "repeat", "channelshuffle": "channel_shuffle",
    "pixelshuffle": "pixel_shuffle", "depthtospace": "pixel_shuffle", "pixelunshuffle": "pixel_unshuffle",
}  # fmt: skip
INSTEAD = {
    "spatialdropout": 'write dropout(0.5, by="channel")',
    "featuredropout": 'write dropout(0.5, by="channel")',
    "rrelu": "write leaky_relu(0.23), whose slope is fixed",
    "depthwiseconv": "write conv(x.channels, 3, groups=x.channels)",
    "separableconv": "write conv(x.channels, 3, groups=x.channels) -> conv(out_channels, 1)",
    "add": "write a + b",
    "multiply": "write a * b",
    "square": "write x * x",
    "identity": "leave it out: x is x",
    "reflectionpad": 'write pad(1, mode="reflect")',
    "replicationpad": 'write pad(1, mode="replicate")',
    "circularpad": 'write pad(1, mode="circular")',
    "spacetodepth": "write pixel_unshuffle(2), whose channels go by those of x, and then by pixels",
    "slice": "write x[:, 0:8, ::2]",
    "narrow": "write x[:, 0:8]",
}


def written(name: str) -> str | None:
    """What to write for a layer by another program's name; None where none is known by it."""
    plain = name.lower().replace("_", "")
    for key in (plain, re.sub(r"[123]d$", "", plain)):
        if key in SAME:
            return f"did you mean '{SAME[key]}'?"
        if key in INSTEAD:
            return INSTEAD[key]
    return None
