"""The two pipelines, top to bottom."""

from __future__ import annotations

from cnnc.passes.eliminate_common import EliminateCommon
from cnnc.passes.eliminate_dead import EliminateDead
from cnnc.passes.fold_batchnorm import FoldBatchnorm
from cnnc.passes.fold_constants import FoldConstants
from cnnc.passes.fuse_epilogues import FuseEpilogues
from cnnc.passes.fuse_pointwise import FusePointwise
from cnnc.passes.manager import Pass
from cnnc.passes.mask_normalized import MaskNormalized
from cnnc.passes.mask_pooled import MaskPooled
from cnnc.passes.merge_groups import MergeGroups
from cnnc.passes.order_updates import OrderUpdates
from cnnc.passes.recompute import Recompute
from cnnc.passes.select_layout import SelectLayout


def inference_pipeline(lanes: int = 16) -> list[Pass]:
    """From a network as written to a graph to be lowered. lanes: channels to a block; 1 keeps every layout plain."""
    return [
        FoldConstants(),
        EliminateCommon(),
        EliminateDead(),
        FoldBatchnorm(),
        FuseEpilogues(),
        FusePointwise(),
        FuseEpilogues(),  # where two readers have become one
        MergeGroups(lanes),
        SelectLayout(lanes),
        EliminateDead(),
    ]


def training_pipeline(lanes: int = 16) -> list[Pass]:
    """From a training graph to one to be lowered: the same passes, but batch norm stays, for its statistics are the
    batch's.
    """
    return [
        FoldConstants(),
        EliminateCommon(),
        EliminateDead(),
        MaskPooled(),
        MaskNormalized(),
        FuseEpilogues(),
        FusePointwise(),
        FuseEpilogues(),  # where two readers have become one
        MergeGroups(lanes),
        SelectLayout(lanes),
        EliminateDead(),
        OrderUpdates(),
        Recompute(),
    ]
