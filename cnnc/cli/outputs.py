"""What many images give, kept on disk until all of it is there: memory holds a batch, whatever the number of images."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from textwrap import indent
from types import TracebackType
from typing import IO, Any, Self

import click
import numpy as np
from numpy.typing import NDArray

from cnnc.cli.common import color, replacing, verbosity
from cnnc.diagnostics import error
from cnnc.streams import messages

IN_MEMORY = 1 << 22  # bytes of JSON that need no file


@contextmanager
def progress(images: int, wanted: bool) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, where that is a terminal; gives a function that moves it on by so many images."""
    if not wanted or verbosity.level < 0 or not messages.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(file=messages, no_color=not color(messages)), transient=True) as bar:
        task = bar.add_task("images", total=images)
        yield lambda count: bar.advance(task, count)


class Rows:
    """Arrays by name that grow by a batch at a time, and become a `.npz` at the end, whole or not at all."""

    def __init__(self, path: str) -> None:
        """Raises `CnncError` (E0601, E0603) before any work is done."""
        if Path(path).suffix.lower() != ".npz":
            raise error("E0603", f"outputs are written as .npz, not to '{path}'", exit_code=2)
        parent = Path(path).parent
        if not parent.is_dir():
            raise error("E0601", f"the folder {parent} does not exist", help=f"mkdir -p {parent}", exit_code=3)
        self.path = path
        self.count = 0
        self._files: dict[str, IO[bytes]] = {}
        self._kinds: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def add(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """[n, ...] each, of the same n."""
        for name, array in arrays.items():
            if name not in self._files:
                self._files[name] = self._open.enter_context(tempfile.TemporaryFile(dir=Path(self.path).parent))
                self._kinds[name] = (array.dtype, array.shape[1:])
            if array.shape[1:] != self._kinds[name][1]:
                before, now = list(self._kinds[name][1]), list(array.shape[1:])
                what = f"'{name}' is {before} of one image and {now} of another: they make no array"
                raise error("E0705", what, help="give images of one size, or write each for itself", exit_code=3)
            self._files[name].write(np.ascontiguousarray(array).tobytes())
        self.count += len(next(iter(arrays.values())))

    def save(self) -> None:
        """Raises `CnncError` (E0601)."""
        with replacing(self.path) as temporary, zipfile.ZipFile(temporary, "w", allowZip64=True) as archive:
            for name, file in self._files.items():
                dtype, shape = self._kinds[name]
                header = {
                    "descr": np.lib.format.dtype_to_descr(dtype),
                    "fortran_order": False,
                    "shape": (self.count, *shape),
                }
                file.seek(0)
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array_header_1_0(member, header)
                    shutil.copyfileobj(file, member, 1 << 20)


class Records:
    """A list of JSON records, printed when it is whole; one record alone is printed as it is."""

    def __init__(self) -> None:
        self.count = 0
        self._text = tempfile.SpooledTemporaryFile(IN_MEMORY, "w+", encoding="utf-8")

    def add(self, record: Mapping[str, Any]) -> None:
        self._text.write(",\n" if self.count else "")
        self._text.write(json.dumps(record, indent=2, allow_nan=False))
        self.count += 1

    def print(self) -> None:
        self._text.seek(0)
        if self.count == 1:
            click.echo(self._text.read())
        elif self.count == 0:
            click.echo("[]")
        else:
            click.echo("[")
            for line in self._text:
                click.echo(indent(line, "  "), nl=False)
            click.echo("\n]")
        self._text.close()
