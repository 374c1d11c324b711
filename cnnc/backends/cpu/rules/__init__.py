"""What each op becomes on the CPU: planners of the kernels turn shapes into launches, rules put buffers to them."""

from __future__ import annotations

from cnnc.backends.cpu.rules import convolution, elementwise, groups, linear, norm, pool, shape
from cnnc.lowering.target import Rule
from cnnc.ops.definitions import DEFINITIONS

RULES: dict[str, Rule] = {
    **dict.fromkeys((*DEFINITIONS, "pointwise", "batchnorm"), elementwise.pointwise),
    "constant": elementwise.constant,
    "expand": elementwise.expand,
    "copy": elementwise.copy,
    "count": elementwise.count,
    "batch_size": elementwise.batch_size,
    "dropout": elementwise.dropout,
    "moments": elementwise.moments,
    "reduce_channels": elementwise.reduce_channels,
    "sum": elementwise.reduce_axes,
    "mean": elementwise.reduce_axes,
    "to_layout": shape.to_layout,
    "flatten": shape.same_memory,
    "reshape": shape.same_memory,
    "concat": shape.concat,
    "slice": shape.slice_,
    "maxpool": pool.pool,
    "maxpool_gradient": pool.pool,
    "avgpool": pool.pool,
    "avgpool_gradient": pool.pool,
    "global_avgpool": pool.global_average,
    "conv": convolution.convolution,
    "conv_data_gradient": convolution.convolution,
    "conv_transpose": convolution.convolution,
    "conv_weight_gradient": convolution.convolution,
    "merge_groups": groups.merge,
    "split_groups": groups.merge,
    "linear": linear.linear,
    "linear_data_gradient": linear.linear_data_gradient,
    "linear_weight_gradient": linear.linear_weight_gradient,
    "lrn": norm.lrn,
    "lrn_gradient": norm.lrn,
    "normalize": norm.normalize,
    "normalize_gradient": norm.normalize_gradient,
    "softmax": norm.softmax,
    "softmax_gradient": norm.softmax,
    "log_softmax": norm.softmax,
    "log_softmax_gradient": norm.softmax,
    "cross_entropy": norm.cross_entropy,
    "cross_entropy_gradient": norm.cross_entropy_gradient,
    "accuracy": norm.accuracy,
}
