"""Why a step runs the kernel that it runs: what stands behind it in the Plan."""

from __future__ import annotations

from cnnc.backends.cpu.choice import choose, why_not
from cnnc.backends.cpu.context import Lowering
from cnnc.ir.graph import Node
from cnnc.lowering.plan import KernelName

# What follows from the kernel alone.
REASONS = {
    "accuracy": "the share of rows whose largest logit is the label's",
    "avgpool": "sums of windows",
    "avgpool_gradient": "each output spread over its window",
    "block": "plain to channel blocks, once at the border",
    "combine_moments": "parts of the images combined in their order",
    "conv_pack_bands": "weights of each panel's groups in the order of the register tile",
    "conv_pack_spread": "weights of each lane's group, by its channels",
    "conv_pack_weights": "weights in the order of the register tile",
    "conv_pooled": "direct, and the maxima of the pooling behind it",
    "conv_plain": "generic: any rank and groups, plain tensors",
    "conv_plain_data_gradient": "generic: any rank and groups, plain tensors",
    "conv_plain_weight_gradient": "generic: any rank and groups, plain tensors",
    "conv_weight_gradient": "direct: sums over pixels stay in registers",
    "conv_weight_gradient_nchw": "direct: few input channels, read plain",
    "conv_depthwise_weight_gradient": "direct: a block of channels to a register",
    "cross_entropy": "softmax and logarithm in one pass over the logits",
    "cross_entropy_gradient": "softmax and difference in one pass over the logits",
    "dropout": "random bits by the element's index: the same in every layout",
    "fill": "a constant",
    "global_average": "sums of whole channels",
    "matmul": "panels of the second matrix stay near while the rows of the first go by",
    "maxpool": "the largest of windows",
    "maxpool_gradient": "the first largest of each window takes it all",
    "moments": "mean and variance of the batch",
    "move_accumulate": "sums over all that each element went to",
    "move_channels": "channels that do not begin a block",
    "move_lanes": "channels of other lanes, put together in registers",
    "move_rows": "rows copied from where they lie",
    "move_transpose": "tiles turned in registers",
    "normalize_columns": "neighboring columns, each with statistics of its own",
    "normalize_columns_gradient": "neighboring columns, each with statistics of its own",
    "normalize_planes": "statistics of groups of channels, and their use while they are near",
    "normalize_planes_gradient": "statistics of groups of channels, and their use while they are near",
    "normalize_rows": "statistics of a row, and their use while it is near",
    "normalize_rows_gradient": "statistics of a row, and their use while it is near",
    "fold_axes": "in a fixed order",
    "place": "the first of equals",
    "running_sum": "one place after the other",
    "unblock": "channel blocks to plain, once at the border",
    "winograd_pack_weights": "weights transformed for Winograd's algorithm",
}
# How the forms of a direct convolution read groups.
GROUPS = {
    "banded": ", each panel reads the channels of its own",
    "shifted": ", each panel has whole groups and reads their channels",
    "spread": ", every lane meets the channels of its own",
}


def why(low: Lowering, node: Node, kernel: KernelName, note: str) -> str:
    """The note of a step: what its rule says of it, and why it is this kernel and no other."""
    parameters = dict(kernel.parameters)
    reason = REASONS.get(kernel.family, "")
    if kernel.family == "conv_direct":
        tile = f"direct {parameters.get('pixels')}x{parameters.get('vectors')}"
        what = note.partition("direct")[0].rstrip(" ,:")
        groups = "" if choose(low, node) else GROUPS.get(parameters.get("form", "").partition(" ")[0], "")
        return f"{f'{what}, ' if what else ''}{tile}: {why_not(low, node)}{groups}"
    if kernel.family == "map":
        results = len(parameters.get("expressions", ()))
        reason = "a copy" if parameters.get("expressions") == (("var", "a0"),) else "one pass over memory"
        reason += f" for {results} results" if results > 1 else ""
    elif kernel.family.startswith("reduce"):
        reason = "sums in a fixed order"
    elif kernel.family.startswith("linear") and not reason:
        batch = low.shape(node.inputs[0])[0]
        reason = f"batch {batch}: streams the weights" if batch <= 4 else f"batch {batch}: a product of matrices"
        if kernel.family == "linear_panels":
            reason += ", of packed weights" if batch > 4 else ", packed in panels"
        if node.op == "linear_weight_gradient":
            reason = f"a product over the batch of {batch}"
    if note and reason and reason not in note:
        return f"{note}: {reason}" if ":" not in note else note
    return note or reason or kernel.family.replace("_", " ")
