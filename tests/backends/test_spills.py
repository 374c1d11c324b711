"""No kernel that a Plan names moves vectors to the stack in its hottest loop, the register tile.

The kernels come from the Plans of the examples, so that a new family is looked at as soon as a rule chooses it. Every target is
compiled for, whether this machine can run it or not. Kernels that differ in their epilogue alone have the same loops.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import cnnc
from cnnc import driver
from cnnc.backends.cpu import CpuBackend
from cnnc.kernels.cpu import Kernel, target
from cnnc.kernels.cpu.code import compile
from cnnc.lowering.lower import lower
from cnnc.passes.optimizer import SGD
from cnnc.passes.training import training_graph
from tests.kernels.assembly import hottest_loops, loop_spills

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
NETWORKS = {
    "avx512": (("lenet5_relu", {}), ("resnet", {"depth": 50}), ("mobilenetv2", {})),
    "avx2": (("lenet5_relu", {}),),
}
EPILOGUES = {"expression", "operands", "epilogue", "kinds", "masked"}
# Their multiply-adds are polynomials (the exponential), or as many as the expression wants.
OTHERS = {"map", "reduce_channels", "cross_entropy", "cross_entropy_gradient", "softmax", "softmax_gradient"}
# Sums of products in registers; all others move data or compute elementwise.
LEAST = 4


def register_tiles(name: str) -> list[Kernel]:
    """One kernel of each family and register tile."""
    machine, tiles = CpuBackend(name), {}
    for file, parameters in NETWORKS[name]:
        graph = cnnc.load(EXAMPLES / f"{file}.cnn", **parameters).graph
        for whole in (graph, training_graph(graph, optimizer=SGD(momentum=0.9))):
            optimized = driver.optimize(whole, machine.layouts())[0]
            for kernel in {k for batch in (1, 16) for k in lower(optimized, batch, machine).kernels()}:
                tile = (kernel.family, *((k, v) for k, v in kernel.parameters if k not in EPILOGUES))
                if kernel.family not in OTHERS:
                    tiles.setdefault(tile, Kernel(kernel.family, kernel.parameters))
    return sorted(tiles.values(), key=str)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_no_register_tile_spills(name: str) -> None:
    hot, wrong = set(), {}
    for kernel in register_tiles(name):
        text = compile.assembly(kernel, target.named(name))
        if hottest_loops(text, LEAST):
            hot.add(kernel.family)
        if found := loop_spills(text, LEAST):
            wrong[str(kernel)] = found[:3]
    assert not wrong
    assert {"conv_direct", "winograd", "linear", "linear_product", "conv_weight_gradient_nchw"} <= hot
