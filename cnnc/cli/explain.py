"""`cnnc explain E0102`."""

from __future__ import annotations

import click

from cnnc.cli.common import define, json_option, print_json
from cnnc.diagnostics import did_you_mean
from cnnc.table import wrapped


@define("explain", "cnnc explain E0204")
@click.argument("code", required=False)
@json_option
def command(code: str | None, as_json: bool) -> None:
    """Say what an error code means, with an example and the fix. Without a code, list them all."""
    from cnnc.codes import CODES

    if code is None:
        if as_json:
            print_json({name: entry.title for name, entry in sorted(CODES.items())})
        else:
            for name, entry in sorted(CODES.items()):
                click.echo("\n".join(wrapped(f"{name}  {entry.title}", indent=" " * 7)))
        return
    if code.upper() not in CODES:
        hint = did_you_mean(code.upper(), CODES)
        raise click.UsageError(
            f"There is no error code '{code}'. " + (f"D{hint[1:]}" if hint else "See 'cnnc explain'.")
        )
    entry = CODES[code.upper()]
    if as_json:
        print_json(
            {"code": code.upper(), "title": entry.title, "text": entry.text, "example": entry.example, "fix": entry.fix}
        )
        return
    click.echo(f"{code.upper()}: {entry.title}\n\n{entry.text.strip()}")
    for heading, text in (("For example", entry.example), ("The fix", entry.fix)):
        if text:
            body = "\n".join(f"    {line}".rstrip() for line in text.strip("\n").splitlines())
            click.echo(f"\n{heading}:\n\n{body}")
