"""`cnnc check M.cnn`."""

from __future__ import annotations

from typing import Any

from cnnc.cli.common import define, diagnostic_record, exists, json_option, model_options, print_json, say, warn


@define("check", "cnnc check examples/resnet.cnn -p depth=50", "cnnc check --json examples/lenet5.cnn")
@model_options
@json_option
def command(path: str, model: str | None, parameters: dict[str, Any], as_json: bool) -> None:
    """Parse a model, unfold it and infer its shapes; report up to 20 diagnostics in one run."""
    from cnnc.frontend import load_with

    exists(path, "model")
    program = load_with(path, model, parameters)
    warn(program.warnings)
    graph = program.graph
    if as_json:
        print_json({"ok": True, "model": graph.name, "diagnostics": [diagnostic_record(d) for d in program.warnings]})
        return
    outputs = ", ".join(f"{label}: {graph.type(value)}" for label, value in graph.outputs)
    say(f"{path}: {graph.name} is well formed, {len(graph.nodes)} nodes; {outputs}")
