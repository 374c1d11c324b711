"""What each op becomes on GPUs."""

from __future__ import annotations

from cnnc.backends.cuda.rules import convolution, elementwise, loss, pool, reduce, shape
from cnnc.lowering.target import Rule
from cnnc.ops.definitions import DEFINITIONS

RULES: dict[str, Rule] = {
    **dict.fromkeys((*DEFINITIONS, "pointwise", "batchnorm"), elementwise.pointwise),
    "constant": elementwise.constant,
    "expand": elementwise.expand,
    "copy": elementwise.copy,
    "count": elementwise.count,
    "batch_size": elementwise.batch_size,
    "to_layout": shape.to_layout,
    "concat": shape.concat,
    "flatten": shape.same_memory,
    "reshape": shape.same_memory,
    **dict.fromkeys(("maxpool", "maxpool_gradient", "avgpool", "avgpool_gradient"), pool.pool),
    "conv": convolution.convolution,
    "conv_data_gradient": convolution.convolution,
    "conv_transpose": convolution.convolution,
    "linear": convolution.linear,
    "conv_weight_gradient": convolution.weight_gradient,
    "linear_data_gradient": convolution.linear_data_gradient,
    "linear_weight_gradient": convolution.linear_weight_gradient,
    "global_avgpool": reduce.global_average,
    "moments": reduce.moments,
    "reduce_channels": reduce.channels,
    **dict.fromkeys(("sum", "mean", "max", "min", "prod"), reduce.over_axes),
    "cross_entropy": loss.cross_entropy,
    "cross_entropy_gradient": loss.cross_entropy_gradient,
    "accuracy": loss.accuracy,
}
