"""From rows of logits to launches. Nothing here imports Numba."""

from __future__ import annotations

from ...cpu.launches import Launch, divide
from .. import Kernel

THREADS = 128
ROWS = THREADS // 32  # a warp has a row
SIZES = ("rows", "classes", "words")
BUFFERS = {"term": ("x", "labels", "y"), "gradient": ("x", "labels", "scale", "y"), "hit": ("x", "labels", "y")}


def plan_classes(what: str, rows: int, classes: int, label_bytes: int) -> Launch:
    """`x`: logits [rows][classes], with a label each, an integer of so many bytes. `y` is for each row

    term: -log softmax(x)[label]. hit: 1 where the first largest logit is the label's, else 0. gradient: [rows][classes],
    (softmax(x) - one_hot(label)) scale / rows, where `scale` is one float. NaN where the label is no class (term, gradient).
    """
    numbers = {"rows": rows, "classes": classes, "words": label_bytes // 4}
    launch = Launch.of(Kernel("classes", (("what", what),)), (*BUFFERS[what], *SIZES), numbers)
    return launch.cut(divide(rows, ROWS))
