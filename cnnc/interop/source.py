"""A graph as a `.cnn` file that a person would have written: the same network, the same names of parameters.

A value that one layer reads is piped into it. Where the names of layers are paths (`layer1.0.conv1`), what stands under a
part of the path is a block, where there are others that are alike but for their numbers; these are its parameters.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cnnc.interop.sayings import PARAM, Block, Body, Item, Said, Unsayable, leaf, of_a_batch, own_parameter, said, value
from cnnc.ir.graph import LEAVES, Graph
from cnnc.ir.layer import LAYERS
from cnnc.ir.types import BATCH

WIDTH = 100
TAKEN = frozenset(
    "include const block model train input for in if else expect return as and or not true false none activation param "
    "len min max int round where".split()
)
NAMES = ("x", "y", "z", "a", "b", "c", "d", "e", "f", "g", "h")


def source(graph: Graph, doc: str = "") -> str:
    """The text. Raises `Unsayable` for what the language has no words for."""
    blocks: list[Block] = []
    items = _fold(list(_items(graph)), graph, blocks)
    parts = [_block(b) for b in blocks]
    lines = [f"## {line}" for line in doc.strip().splitlines()[:8]]
    lines.append(f"model {word(graph.name)}() {{")
    for node in graph.inputs:
        if node.type.shape[:1] != (BATCH,):
            raise Unsayable(f"the input {node.name} has no open batch")
        lines.append(f"    input {word(node.name)}: {node.type.dtype}[{', '.join(map(str, node.type.shape))}]")
    writer = Writer([n.name for n in graph.inputs], items, [v for _, v in graph.outputs])
    end = writer.returned(graph.outputs)  # may need statements of its own
    return "\n\n".join([*parts, "\n".join([*lines, *writer.lines, end, "}"])]) + "\n"


def word(text: str) -> str:
    """A name of an input or a model as the language may have it."""
    name = re.sub(r"\W", "_", text)
    if not re.match(r"[A-Za-z_]", name) or name in TAKEN:
        name = f"net_{name}"
    return name


# ------------------------------------------------------------------------------------------------ items and blocks


def _items(graph: Graph) -> Iterator[Item]:
    made: set[str] = set()
    for node in graph.nodes:
        if node.op in LEAVES or node.op == "constant" or leaf(graph, node.name) != node.name or of_a_batch(graph, node):
            continue
        spoken = said(graph, node)
        if spoken.infix:
            for own in dict.fromkeys(o for o in node.inputs if graph.node(o).op == "param"):
                if own not in made:
                    made.add(own)
                    path = tuple(own.split("."))
                    yield Item(own_parameter(graph, own), (), (own,), path[:-1], path[-1])
        path = tuple((spoken.label or node.name).split("."))
        operands = tuple(
            o
            for o in node.inputs
            if o in made or graph.node(leaf(graph, o)).op not in ("param", "state", "constant", "moments")
        )
        yield Item(spoken, operands, node.results, path[:-1], path[-1])


def _form(body: Body) -> object:
    """What bodies that are one block have in common: layers, labels and edges, without numbers."""
    places = {v: -1 - i for i, v in enumerate(body.inputs)}
    rows = []
    for n, item in enumerate(body.items):
        name = item.said.block.name if item.said.block is not None else item.said.name
        keys = tuple(k for k, _ in item.said.given())
        operands = tuple(places[o] for o in item.operands)
        rows.append((name, tuple(item.said.numbers.items()), item.said.label and item.label, keys, operands))
        places.update({r: (n, k) for k, r in enumerate(item.results)})  # type: ignore[misc]
    return tuple(rows), tuple(places[o] for o in body.outputs)


def _bodies(items: Sequence[Item], graph: Graph, depth: int) -> dict[tuple[str, ...], tuple[int, int, Body]]:
    """The parts of a sequence that stand under one path of `depth` parts each, without a gap: begin, end, body."""
    found: dict[tuple[str, ...], list[int]] = {}
    for at, item in enumerate(items):
        path = (*item.scope, item.label)
        if len(item.scope) >= depth or (not item.said.label and path[:depth] in found):
            found.setdefault(path[:depth], []).append(at)
    outputs = {v for _, v in graph.outputs}
    result = {}
    for path, places in found.items():
        begin, end = places[0], places[-1] + 1
        if len(places) != end - begin or len(places) < 2 or not any(items[p].said.label for p in places):
            continue
        read = {o for i in (*items[:begin], *items[end:]) for o in i.operands} | outputs
        body = _body(items[begin:end], read, depth)
        if len(body.outputs) == 1 and body.inputs:
            result[path] = begin, end, body
    return result


def _body(inside: Sequence[Item], read: Collection[str], depth: int) -> Body:
    """Items of one path. read: what others read of them."""
    made = {r for i in inside for r in i.results}
    inputs = tuple(dict.fromkeys(o for i in inside for o in i.operands if o not in made))
    leaving = tuple(r for i in inside for r in i.results if r in read)
    return Body(tuple(_under(i, depth) for i in inside), inputs, leaving)


def _under(item: Item, depth: int) -> Item:
    return replace(item, scope=item.scope[depth:])


def _fold(items: list[Item], graph: Graph, blocks: list[Block]) -> list[Item]:
    """Items with what repeats as blocks, the deepest paths first."""
    for depth in range(max((len(i.scope) for i in items), default=0), 0, -1):
        bodies = _bodies(items, graph, depth)
        alike = Counter(_form(body) for _, _, body in bodies.values())
        shared: dict[object, Block] = {}
        for path, (begin, end, body) in sorted(bodies.items(), key=lambda b: -b[1][0]):
            form = _form(body)
            if alike[form] < 2:
                continue
            block = shared.setdefault(form, Block("", []))
            block.variants.append(body)
            call = Item(Said("", label=".".join(path)), body.inputs, body.outputs, path[:-1], path[-1], body)
            items[begin:end] = [replace(call, said=replace(call.said, block=block))]
        for block in reversed(shared.values()):
            block.variants.reverse()
            block.name = _free(_stem(block, items), [b.name for b in blocks])
            block.parameters = _parameters(block.variants)
            blocks.append(block)
        items[:] = [_called(i) if i.body is not None and i.said.block in shared.values() else i for i in items]
    return items


def _called(item: Item) -> Item:
    """A block's application with its arguments."""
    assert item.said.block is not None
    assert item.body is not None
    arguments = {}
    for (at, key), name in item.said.block.parameters.items():
        arguments[name] = dict(item.body.items[at].said.given())[key]
    return replace(item, said=replace(item.said, arguments=arguments))


def _stem(block: Block, items: Iterable[Item]) -> str:
    path = next(i.said.label for i in items if i.said.block is block)
    words = [re.sub(r"\d+$", "", p) for p in path.split(".") if re.sub(r"\d+$", "", p)]
    stem = word(words[-1].lower()) if words else "unit"
    return f"{stem}_block" if stem in LAYERS else stem


def _free(stem: str, taken: Sequence[str]) -> str:
    name, count = stem, 1
    while name in taken:
        count += 1
        name = f"{stem}{count}"
    return name


def _parameters(variants: Sequence[Body]) -> dict[tuple[int, str], str]:
    """The arguments that differ between applications, by place; those that always agree are one parameter."""
    columns: dict[tuple[Any, ...], str] = {}
    result = {}
    taken = [*NAMES, *TAKEN]
    for at, item in enumerate(variants[0].items):
        for key, _ in item.said.given():
            column = tuple(str(dict(v.items[at].said.given())[key]) for v in variants)
            if len(set(column)) == 1:
                continue
            if column not in columns:
                columns[column] = _free({"out_channels": "width", "out_features": "width"}.get(key, key), taken)
                taken.append(columns[column])
            result[at, key] = columns[column]
    return result


def _block(block: Block) -> str:
    body = block.variants[0]
    writer = Writer(list(body.inputs), body.items, body.outputs, block.parameters)
    names = [writer.names[v] for v in body.inputs]
    head = ", ".join([*writer.first[: len(names)], *dict.fromkeys(block.parameters.values())])
    end = writer.returned([("", body.outputs[0])])
    return "\n".join([f"block {block.name}({head}) {{", *writer.lines, end, "}"])


# ------------------------------------------------------------------------------------------------ statements


class Writer:
    """Statements of one body. A name is given again when what it stood for has been read for the last time."""

    def __init__(
        self,
        inputs: Sequence[str],
        items: Sequence[Item],
        outputs: Sequence[str],
        parameters: Mapping[tuple[int, str], str] | None = None,
    ) -> None:
        self.lines: list[str] = []
        self.parameters = parameters or {}
        self.left = Counter(o for i in items for o in i.operands) + Counter(outputs)
        self.reader = {o: i for i in items for o in i.operands}
        self.outputs = set(outputs)
        in_block = parameters is not None
        self.names = {v: NAMES[k] if in_block else word(v) for k, v in enumerate(inputs)}
        self.first = list(self.names.values())
        self.pending: dict[str, str] = {}
        for at, item in enumerate(items):
            self.item(at, item)

    def item(self, at: int, item: Item) -> None:
        text = self.call(at, item)
        if item.said.name == PARAM:
            if item.scope or not item.label.isidentifier() or item.label in (*TAKEN, *self.names.values()):
                raise Unsayable(f"the parameter {'.'.join((*item.scope, item.label))} has no layer and no block")
            self.names[item.results[0]] = item.label
            self.lines.append(f"    param {item.label}: {text}")
            return
        if item.said.infix or item.said.listed or item.said.called:
            operands = [self.named(o) for o in item.operands]
        else:
            operands = [self.piped(item.operands[0]), *map(self.named, item.operands[1:])]
        for o in item.operands:
            self.left[o] -= 1
        whole = item.said.join(operands, text)
        (result, *others) = item.results
        user = self.reader.get(result)
        once = self.left[result] == 1 and not others and (user is None or user.operands[:1] == (result,))
        if once and (user is None or not (user.said.infix or user.said.listed or user.said.called)):
            self.pending[result] = whole
        else:
            self.assign(result, whole)

    def call(self, at: int, item: Item) -> str:
        texts = {k: self.parameters[at, k] for k, _ in item.said.given() if (at, k) in self.parameters}
        return item.said.text(texts, ".".join((*item.scope, item.label)) if item.said.label else "")

    def piped(self, operand: str) -> str:
        return self.pending.pop(operand) if operand in self.pending else self.named(operand)

    def named(self, operand: str) -> str:
        if operand in self.pending:
            self.assign(operand, self.pending.pop(operand))
        return self.names[operand]

    def assign(self, result: str, text: str) -> None:
        used = {n for v, n in self.names.items() if self.left[v] > 0}
        pool = (*NAMES, *(f"v{k}" for k in range(1, 1 << 20)))
        name = next(n for n in pool if n not in used and n not in self.parameters.values())
        self.names[result] = name
        self.lines += _wrapped(f"{name} = ", text)

    def returned(self, outputs: Sequence[tuple[str, str]]) -> str:
        if len(outputs) == 1 and outputs[0][0] in ("", "output"):
            return "\n".join(_wrapped("return ", self.piped(outputs[0][1])))
        pairs = [
            f"{k if re.fullmatch(r'[A-Za-z_]+', k) and k not in TAKEN else value(k)}: {self.named(v)}"
            for k, v in outputs
        ]
        return f"    return {{{', '.join(pairs)}}}"


def _wrapped(head: str, text: str) -> list[str]:
    """A statement, broken in front of arrows where it is long."""
    first, *steps = text.split(" -> ")
    lines, line = [], f"    {head}{first}"
    indent = " " * (len(line) - len(first) + min(len(first), 4))
    for step in steps:
        if len(line) + len(step) + 4 > WIDTH:
            lines.append(line)
            line = f"{indent}-> {step}"
        else:
            line += f" -> {step}"
    return [*lines, line]
