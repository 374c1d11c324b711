"""`cnnc check M.cnn`."""

from __future__ import annotations

from cnnc.cli.common import diagnostic_record, print_json, say
from cnnc.cli.options import Chosen, define, json_option, load, model_options


@define("check", "cnnc check examples/resnet.cnn -p depth=50", "cnnc check --json examples/lenet5.cnn")
@model_options
@json_option
def command(chosen: Chosen, as_json: bool) -> None:
    """Parse a model, unfold it and infer its shapes; report up to 20 diagnostics in one run."""
    network = load(chosen).representative
    graph, warnings = network.graph, network.warnings
    if as_json:
        print_json({"ok": True, "model": graph.name, "diagnostics": [diagnostic_record(d) for d in warnings]})
        return
    outputs = ", ".join(f"{label}: {graph.type(value)}" for label, value in graph.outputs)
    say(f"{chosen.path}: {graph.name} is well formed, {len(graph.nodes)} nodes; {outputs}")
