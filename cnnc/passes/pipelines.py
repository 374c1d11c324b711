"""The two pipelines, top to bottom, whose order is checked where they are made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cnnc.passes.eliminate_common import EliminateCommon
from cnnc.passes.eliminate_dead import EliminateDead
from cnnc.passes.fold_batchnorm import FoldBatchnorm
from cnnc.passes.fold_constants import FoldConstants
from cnnc.passes.fuse_epilogues import FuseEpilogues
from cnnc.passes.fuse_pointwise import FusePointwise
from cnnc.passes.manager import Form, Forms, Pass
from cnnc.passes.mask_normalized import MaskNormalized
from cnnc.passes.mask_pooled import MaskPooled
from cnnc.passes.order_updates import OrderUpdates
from cnnc.passes.recompute import Recompute

WRITTEN: Forms = frozenset((Form.PLAIN, Form.SEPARATE, Form.ONCE))
LOWERED: Forms = frozenset((Form.LAID_OUT, Form.READ))


def in_order(passes: Iterable[Pass], before: Forms = WRITTEN, after: Forms = LOWERED) -> list[Pass]:
    """The passes, if each stands where the graph is what it needs.

    before: what is true of the graph that they are given. after: what must be true of the one that they make. Raises
    `ValueError` with the passes that stand in a wrong order, and why.
    """
    passes, true = list(passes), set(before)
    ended: dict[Form, str] = {}

    def check(needed: Forms, who: str) -> None:
        for form in sorted(needed - true, key=lambda f: f.name):
            reason = f"which {ended[form]} ends" if form in ended else "which no pass before sees to"
            raise ValueError(f"{who} needs that {form.value}, {reason}: {', '.join(map(str, passes))}")

    for p in passes:
        check(p.needs, p.name)
        true = true - p.ends | p.gives
        ended |= dict.fromkeys(p.ends, p.name)
    check(after, "what comes behind the passes")
    return passes


def inference_pipeline(layouts: Sequence[Pass]) -> list[Pass]:
    """From a network as written to a graph to be lowered. layouts: the target's part, which gives tensors its
    layouts.
    """
    return in_order(
        (
            FoldConstants(),
            EliminateCommon(),
            EliminateDead(),
            FoldBatchnorm(),
            FuseEpilogues(),
            FusePointwise(),
            FuseEpilogues(),  # where two readers have become one
            *layouts,
            EliminateDead(),
        )
    )


def training_pipeline(layouts: Sequence[Pass]) -> list[Pass]:
    """From a training graph to one to be lowered: the same passes, but batch norm stays, for its statistics are the
    batch's.
    """
    return in_order(
        (
            FoldConstants(),
            EliminateCommon(),
            EliminateDead(),
            MaskPooled(),
            MaskNormalized(),
            FuseEpilogues(),
            FusePointwise(),
            FuseEpilogues(),  # where two readers have become one
            *layouts,
            EliminateDead(),
            OrderUpdates(),
            Recompute(),
        ),
        after=LOWERED | {Form.ORDERED},
    )
