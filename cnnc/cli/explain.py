"""`cnnc explain E0102`, `cnnc explain conv`."""

from __future__ import annotations

import re

import click

from cnnc.cli.common import print_json
from cnnc.cli.options import define, json_option
from cnnc.codes import CODES, Code
from cnnc.diagnostics import did_you_mean
from cnnc.table import wrapped


@define("explain", "cnnc explain E0204", "cnnc explain conv")
@click.argument("name", metavar="[CODE|LAYER]", required=False)
@json_option
def command(name: str | None, as_json: bool) -> None:
    """Say what an error code means, with an example and the fix, or what a layer does. Without a name, list the codes."""
    if name is None:
        if as_json:
            print_json({code: entry.title for code, entry in sorted(CODES.items())})
        else:
            for code, entry in sorted(CODES.items()):
                click.echo("\n".join(wrapped(f"{code}  {entry.title}", indent=" " * 7)))
    elif name.upper() in CODES:
        _code(name.upper(), CODES[name.upper()], as_json)
    elif re.match(r"[EW]\d", name, re.IGNORECASE):
        raise _unknown(f"There is no error code '{name}'.", did_you_mean(name.upper(), CODES))
    else:
        _layer(name, as_json)


def _code(code: str, entry: Code, as_json: bool) -> None:
    if as_json:
        print_json({"code": code, "title": entry.title, "text": entry.text, "example": entry.example, "fix": entry.fix})
        return
    click.echo(f"{code}: {entry.title}\n\n{entry.text.strip()}")
    for heading, text in (("For example", entry.example), ("The fix", entry.fix)):
        if text:
            body = "\n".join(f"    {line}".rstrip() for line in text.strip("\n").splitlines())
            click.echo(f"\n{heading}:\n\n{body}")


def _layer(name: str, as_json: bool) -> None:
    """A layer of the language, or an op of the IR that is none."""
    from cnnc import manual
    from cnnc.frontend.synonyms import written
    from cnnc.ir.layer import LAYERS
    from cnnc.ir.op import OPS

    if name in LAYERS:
        said = manual.layer_json(LAYERS[name]) if as_json else manual.layer_page(LAYERS[name])
    elif name in OPS:
        said = manual.op_json(OPS[name]) if as_json else manual.op_page(OPS[name])
    else:
        hint = written(name) or did_you_mean(name, [*CODES, *LAYERS, *OPS])
        raise _unknown(f"There is no error code, layer or op '{name}'.", hint)
    print_json(said) if isinstance(said, dict) else click.echo(said)


def _unknown(message: str, hint: str | None) -> click.UsageError:
    return click.UsageError(f"{message} " + (f"{hint[0].upper()}{hint[1:]}" if hint else "See 'cnnc explain'."))
