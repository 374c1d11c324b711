"""`cnnc new NAME`."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

import click

from cnnc.cli.common import say, write_text
from cnnc.cli.options import define
from cnnc.diagnostics import did_you_mean, error

START = "small"


def examples() -> dict[str, Path]:
    """The models that come with the package, by name."""
    from importlib.resources import files

    folder = Path(str(files("cnnc.examples")))
    return {p.stem: p for p in sorted(folder.glob("*.cnn"))}


def about(text: str) -> str:
    """What a model's file says of it: its first sentence."""
    lines = (line.removeprefix("##").strip() for line in text.splitlines() if line.startswith("##"))
    return re.split(r"(?<=[.:])\s+(?=[A-Z`])", " ".join(lines), maxsplit=1)[0].rstrip(":.")


@define("new", "cnnc new mine", "cnnc new mine --from resnet", "cnnc new --list")
@click.argument("name", required=False)
@click.option(
    "--from", "origin", default=START, show_default=True, metavar="EXAMPLE", help="The example to begin with."
)
@click.option("--list", "listing", is_flag=True, help="List the examples.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def command(name: str | None, origin: str, listing: bool, force: bool) -> None:
    """Write a model and its recipe to start from, NAME.cnn: a copy of one of the examples."""
    from cnnc.table import wrapped

    known = examples()
    if listing:
        width = max(map(len, known), default=0)
        for each, path in known.items():
            line = f"{each.ljust(width)}  {about(path.read_text(encoding='utf-8'))}"
            click.echo("\n".join(wrapped(line, indent=" " * (width + 2))))
        return
    if name is None:
        raise click.UsageError("Missing argument 'NAME': what the model is to be called.")
    if origin not in known:
        hint = did_you_mean(origin, known) or f"the examples are {', '.join(known)}"
        raise click.BadParameter(f"there is no example '{origin}'; {hint}", param_hint="'--from'")
    path = Path(name if name.endswith(".cnn") else f"{name}.cnn")
    if not path.stem:
        raise click.BadParameter(f"'{name}' names no model", param_hint="'NAME'")
    if path.exists() and not force:
        raise error(
            "E0601", f"{path} is there already", help="--force replaces it, or choose another name", exit_code=2
        )
    text = known[origin].read_text(encoding="utf-8")
    write_text(path, re.sub(rf"(?m)^model {origin}\b", f"model {identifier(path.stem)}", text))
    say(f"wrote {path}, as {origin}.cnn has it\n")
    say(f"  cnnc summary {path}")
    say(f"  cnnc train {path} --data photos/ -p classes=3 --out runs/{path.stem}")
    say(f"  cnnc run {path} -p classes=3 --weights runs/{path.stem}/weights.safetensors --input one.jpg")


def identifier(stem: str) -> str:
    """A name of the language that comes near to a file's."""
    from cnnc.ir.layer import WORDS

    name = re.sub(r"\W", "_", stem, flags=re.ASCII)
    name = f"m_{name}" if not name[:1].isalpha() else name
    return f"{name}_" if name.upper() in WORDS or name in WORDS or keyword.iskeyword(name) else name
