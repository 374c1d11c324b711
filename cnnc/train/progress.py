"""What a run shows on stderr while it trains: one moving line on a terminal, a plain line an epoch elsewhere."""

from __future__ import annotations

import os
import time
from types import TracebackType
from typing import Any, Self

from cnnc.streams import messages, say
from cnnc.table import columns, wrapped

BESIDE = 60  # columns that stand beside the bar


def duration(seconds: float) -> str:
    """`42 s`, `3:07 min` or `2:05 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60}:{whole % 60:02} min" if whole < 3600 else f"{whole // 3600}:{whole % 3600 // 60:02} h"


class Progress:
    """`steps` are those of an epoch; `first` is the epoch that begins."""

    def __init__(self, epochs: int, steps: int, first: int = 0, quiet: bool = False) -> None:
        self.epochs, self.steps, self.first, self.quiet = epochs, steps, first, quiet
        self.started = time.monotonic()
        terminal = messages.isatty() and os.environ.get("TERM") != "dumb"
        self.live: Any = None
        if terminal and not quiet:
            from rich.console import Console
            from rich.live import Live

            console = Console(file=messages, no_color=bool(os.environ.get("NO_COLOR")), highlight=False)
            self.live = Live(console=console, refresh_per_second=8, transient=True)

    def __enter__(self) -> Self:
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.stop()

    def step(self, epoch: int, step: int, loss: float, accuracy: float | None) -> None:
        """After a step of an epoch, both counted from 0; loss and accuracy, where there is one, are the epoch's so far."""
        if self.live is None:
            return
        done = (epoch - self.first) * self.steps + step + 1
        left = (time.monotonic() - self.started) / done * ((self.epochs - self.first) * self.steps - done)
        width = max(min(20, columns() - BESIDE), 0)
        filled = width * (step + 1) // max(self.steps, 1)
        bar = "━" * filled + "╌" * (width - filled)
        right = "" if accuracy is None else f"  accuracy {accuracy:.2%}"
        self.live.update(f"epoch {epoch + 1}/{self.epochs} {bar} loss {loss:.4f}{right}  {duration(left)} left")

    def say(self, text: str) -> None:
        """A line or more that stay."""
        if self.quiet:
            return
        if self.live is not None:
            self.live.console.print(text, soft_wrap=True, markup=False)
        else:
            say(text)

    def epoch(self, record: dict[str, Any]) -> None:
        """After an epoch: its line stays."""
        if self.quiet:
            return
        line = f"epoch {record['epoch']:>{len(str(self.epochs))}}/{self.epochs}"
        accuracy, right = record["accuracy"], record["val_accuracy"]
        held = right is not None or record["val_loss"] is not None
        loss = float("nan") if record["val_loss"] is None else record["val_loss"]
        line += f"  loss {record['loss']:.4f}" + (f"  val {loss:.4f}" if held else "")
        line += "" if accuracy is None else f"  accuracy {accuracy:.2%}"
        line += "" if right is None else f"  val {right:.2%}"
        line = "\n".join(wrapped(f"{line}  {record['seconds']:.1f} s", indent="    "))
        self.say(line)
