"""Weights in the kernels' layouts, with NumPy: the definition of the kernels that pack them."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnc.kernels.cpu.conv.arguments import PackedWeights
from cnnc.kernels.cpu.conv.bands_plan import BandedWeights
from cnnc.kernels.cpu.conv.spread_plan import SpreadWeights
from cnnc.kernels.cpu.problem import FOREIGN


def pack_weights(weights: Any, form: PackedWeights) -> Any:
    """[out, in / groups, ...] weights as `conv_direct` reads them: one-dimensional, of the weights' dtype, zero where
    padded.
    """
    source = np.asarray(weights)
    first = form.in_channels if form.transposed else form.out_channels
    second = form.out_channels if form.transposed else form.in_channels
    planes, begin, step = form.planes
    taps = [[begin + plane * step + tap for tap in form.source_taps] for plane in range(planes)]
    source = source.reshape(form.groups, first, second, form.all_taps)[..., np.array(taps, int).reshape(planes, -1)]
    if form.transposed:
        source = source.swapaxes(1, 2)
    count, lanes, depth, blocks = len(form.source_taps), form.lanes, form.depth, form.out_blocks
    full = np.zeros((form.groups, blocks * lanes, planes, form.channel_blocks * depth, count), source.dtype)
    full[:, : form.out_channels, :, : form.in_channels] = source.transpose(0, 1, 3, 2, 4)
    # group, out block, lane, in block, k, tap -> group, out block, in block, tap, k, lane
    full = full.reshape(form.groups, blocks, lanes, form.in_blocks, depth, count).transpose(0, 1, 3, 5, 4, 2)
    panels = blocks // form.panel
    together = full[:, : panels * form.panel].reshape(
        form.groups, panels, form.panel, form.in_blocks, count, depth, lanes
    )
    together = together.transpose(0, 1, 3, 4, 5, 2, 6).reshape(form.groups, -1)
    tail = full[:, panels * form.panel :].reshape(form.groups, -1)
    return np.ascontiguousarray(np.concatenate([together, tail], axis=1).reshape(-1))


def _by_group(weights: Any, form: BandedWeights | SpreadWeights) -> Any:
    """[group, out, in, tap] of the kernel that reads them."""
    first, second = (form.in_channels, form.out_channels) if form.transposed else (form.out_channels, form.in_channels)
    source = np.asarray(weights).reshape(form.groups, first, second, form.all_taps)[..., list(form.source_taps)]
    return source.swapaxes(1, 2) if form.transposed else source


def pack_bands(weights: Any, form: BandedWeights) -> Any:
    """[out, in / groups, ...] weights of groups that are not whole blocks, as the banded `conv_direct` reads them."""
    source = _by_group(weights, form)
    lanes, outs, ins, taps = form.lanes, form.out_channels, form.in_channels, len(form.source_taps)
    dense = np.full((form.outputs, form.groups * ins + 1, taps), FOREIGN, source.dtype)
    for group in range(form.groups):
        dense[group * outs : (group + 1) * outs, group * ins : (group + 1) * ins] = source[group]
    parts = [np.zeros(0, source.dtype)]
    for band in form.bands:
        own = np.full((band.size * lanes, *dense.shape[1:]), FOREIGN, source.dtype)
        own[: band.count] = dense[band.channel : band.channel + band.count]
        for low in range(band.low // lanes * lanes, band.high, lanes):
            block = own[:, max(low, band.low) : min(low + lanes, band.high)]
            parts.append(block.transpose(2, 1, 0).reshape(-1))
    return np.concatenate(parts)


def pack_spread(weights: Any, form: SpreadWeights) -> Any:
    """The same as `conv_direct` of spread input reads them."""
    source = _by_group(weights, form)
    full = np.zeros((form.blocks * form.lanes, *source.shape[2:]), source.dtype)
    full[: form.outputs] = source.reshape(form.outputs, *source.shape[2:])
    return full.reshape(form.blocks, form.lanes, *source.shape[2:]).transpose(0, 2, 3, 1).reshape(-1)
