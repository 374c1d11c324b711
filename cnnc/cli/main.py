"""The group of all commands, and what becomes of every error.

A command's module is imported when it is run, and whatever is heavy is imported by the command when it needs it:
`cnnc --help` imports click and nothing else.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches
from typing import Any, NoReturn

import click

from cnnc import __version__
from cnnc.cli import streams
from cnnc.diagnostics import CnncError, Diagnostic
from cnnc.streams import messages, say

# name: (module in cnnc.cli, what it does)
COMMANDS = {
    "new": ("new", "Write a model to start from."),
    "check": ("check", "Parse a model and report what is wrong with it."),
    "summary": ("summary", "Print a row per layer, totals and planned memory."),
    "ir": ("ir", "Print the graph before, between and after the passes."),
    "opt": ("opt", "Run passes over IR text."),
    "graph": ("graph", "Draw the network: SVG, DOT or Mermaid."),
    "compile": ("compile", "Compile a model into one artifact."),
    "run": ("run", "Classify images or arrays."),
    "train": ("train", "Train a model on a data set."),
    "stats": ("stats", "Say how values and gradients are spread in every layer."),
    "bench": ("bench", "Time a network, beside other programs and layer by layer."),
    "export": ("export", "Write a model and its weights as ONNX."),
    "import": ("import_", "Write an ONNX model as a .cnn file with its weights."),
    "gradcheck": ("gradcheck", "Compare every gradient with central differences."),
    "doctor": ("doctor", "Look at this machine and say what is wrong."),
    "cache": ("cache", "List, clear or warm the compiled kernels on disk."),
    "explain": ("explain", "Say what an error code means, or what a layer does."),
}
USAGE, DATA, MEMORY, BUG, INTERRUPTED = 2, 3, 5, 70, 130


class Commands(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        from importlib import import_module

        command = import_module(f"cnnc.cli.{COMMANDS[name][0]}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = get_close_matches(args[0], COMMANDS, n=1, cutoff=0.5)
            hint = f"Did you mean '{near[0]}'?" if near else "See 'cnnc --help'."
            raise click.UsageError(f"No such command '{args[0]}'. {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command and leave with its exit code. Every exception ends here."""
        given = list(sys.argv[1:] if args is None else args)
        if not standalone_mode:
            return super().main(given, prog_name, complete_var, False, **extra)
        with streams.standard():
            try:
                result = super().main(given, prog_name or "cnnc", complete_var, False, **extra)
                sys.stdout.flush()
                code = result if isinstance(result, int) else 0
            except streams.ReaderGone:
                code = 0
            except (Exception, KeyboardInterrupt) as e:
                code = report(e, given)
        streams.settle()
        sys.exit(code)


def report(e: BaseException, given: Sequence[str]) -> int:
    """Say on stderr what went wrong with the command of these arguments (and on stdout as JSON where that was asked for);
    the exit code.
    """
    match e:
        case CnncError():
            from cnnc.cli.common import diagnostics_json, print_diagnostics

            print_diagnostics(e.diagnostics)
            if "--json" in given:
                with suppress(CnncError, streams.ReaderGone):  # stdout may be what failed
                    diagnostics_json(e.diagnostics)
            if e.exit_code == BUG:
                _keep(e, given)
            return e.exit_code
        case click.UsageError():
            e.show(messages)
            return USAGE
        case click.ClickException():
            e.show(messages)
            return DATA
        case KeyboardInterrupt() | click.Abort():
            say("interrupted")
            return INTERRUPTED
        case MemoryError():
            return report(
                CnncError(Diagnostic("E0602", "there is not enough memory", help="a smaller batch needs less"), MEMORY),
                given,
            )
        case OSError() if e.filename is not None:
            message = f"{e.filename}: {(e.strerror or str(e)).lower()}"
            return report(CnncError(Diagnostic("E0601", message), DATA), given)
        case OSError(errno=errno.ENOSPC | errno.EIO | errno.EDQUOT):
            return report(CnncError(Diagnostic("E0601", f"cannot write: {(e.strerror or str(e)).lower()}"), DATA), ())
    _report_bug(e, given)
    return BUG


def _report_bug(e: BaseException, given: Sequence[str]) -> None:
    if os.environ.get("CNNC_DEBUG") == "1":
        import traceback

        traceback.print_exception(e, file=messages)
    last = e.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    where = f" ({os.path.basename(last.tb_frame.f_code.co_filename)}:{last.tb_lineno})" if last is not None else ""
    say(
        f"internal error: {type(e).__name__}: {e}{where}\n"
        f"This is a bug in cnnc {__version__}. Please report it with the command, the model and what\n"
        "CNNC_DEBUG=1 prints when it is run again."
    )
    _keep(e, given)


def _keep(e: BaseException, given: Sequence[str]) -> None:
    """Write what is needed to see a bug again, and say where."""
    from cnnc.cli import reproducer

    path = reproducer.write(e, given)
    if path is not None:
        say(f"The command, the versions and what was worked on are in {path}")


@click.command(
    "cnnc",
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  cnnc check examples/lenet5.cnn
  cnnc train examples/lenet5_relu.cnn --data examples/data/digits.npz --out runs/digits
  cnnc summary examples/resnet.cnn -p depth=50

A model parameter is set with -p name=value, one of several models picked with -m name. Each command has its own --help.

\b
Data goes to stdout, messages to stderr. Exit codes: 0 done, 1 the model does not
compile, 2 usage, 3 data or a file cannot be read or written, 4 a check failed,
5 out of memory, 70 a bug, 130 interrupted. A message that cannot be written ends
nothing; a reader of stdout that has gone (| head) ends a command with 0.
""",
)
@click.version_option(__version__, prog_name="cnnc")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no warnings; as behind the command.")
@click.option("-v", "--verbose", count=True, help="Say more on stderr; as behind the command.")
def cli(quiet: bool, verbose: int) -> None:
    """Compile convolutional networks: a .cnn file to native code that infers and trains."""


def main() -> NoReturn:
    streams.occupy()
    cli.main()
    raise AssertionError("the group leaves with an exit code")
