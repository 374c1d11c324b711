"""fuse-pointwise: what reads and writes the same tensors becomes one walk over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from cnnc.ir import expression as ex
from cnnc.ir.expression import Expression
from cnnc.ir.graph import Attributes, Graph, Node
from cnnc.ir.op import OPS, InferenceError
from cnnc.ir.rewrite import fixed_values
from cnnc.ir.types import TensorType
from cnnc.ops import pointwise
from cnnc.passes.manager import Fusion, Limits, register_pass

EXPENSIVE = frozenset(
    (
        "exp",
        "expm1",
        "log",
        "log1p",
        "sigmoid",
        "softplus",
        "tanh",
        "sqrt",
        "div",
        "pow",
        "erf",
        "normal_cdf",
        "normal_pdf",
    )
)
LARGEST = 64  # functions in one expression
RESULTS = 4  # of one node
ROUNDS = 4  # a merge may leave a producer one reader, which the next round puts into it


def expressions(node: Node) -> tuple[Expression, ...]:
    """The expressions of a node that this pass may fuse; empty for any other."""
    if node.op == "reduce_channels":
        return tuple(ex.parse(t) for t in node.attributes["expressions"])
    if node.op == "expand":
        return (ex.var("a0"),)
    return pointwise.expressions(node) if pointwise.is_pointwise(node) else ()


@register_pass
@dataclass(frozen=True)
class FusePointwise(Fusion):
    """y = f(a, b), z = g(y, c)  -->  z = g(f(a, b), c)           where nothing else reads y, or f is cheap and read twice
    y = f(a, b), z = g(y, a)  -->  y, z = f(a, b), g(f(a, b), a)  where y is needed as well: one walk writes both
    y = f(a, b), s = sum of g(y)  -->  s = sum of g(f(a, b))      into reduce_channels in the same way

    All of one shape; at most `operands` operands. A per-channel vector is computed once by its own node rather than for
    every pixel.
    """

    name: ClassVar[str] = "fuse-pointwise"
    within: ClassVar[Limits] = {"operands": (1, 12)}
    operands: int = 12

    def apply(self, graph: Graph) -> Graph:
        # what depends on params alone is computed once, when they are loaded; after an update it must be computed again
        fixed = frozenset() if graph.updates else fixed_values(graph)
        nodes = graph.nodes
        for _ in range(ROUNDS):
            state = _State(replace(graph, nodes=nodes), self.operands, fixed)
            walks = [n for n in nodes if n.name not in fixed and n.op != "constant" and expressions(n)]
            for node in walks:
                state.absorb(node.name)
            for node in walks:
                if node.op != "reduce_channels":
                    state.merge(node.name)
            if not state.changed:
                break
            nodes = tuple(node for _, node in sorted(state.nodes.items()))
        return graph if nodes == graph.nodes else replace(graph, nodes=nodes)


class _State:
    """The nodes that are left by their places, who makes each value, and who reads it."""

    def __init__(self, graph: Graph, limit: int, fixed: frozenset[str]) -> None:
        self.limit, self.fixed = limit, fixed
        self.kept = graph.kept
        self.nodes = dict(enumerate(graph.nodes))
        self.places = {r: i for i, n in enumerate(graph.nodes) for r in n.results}
        self.types: dict[str, TensorType] = {r: t for n in graph.nodes for r, t in zip(n.results, n.types, strict=True)}
        self.users: dict[str, dict[int, None]] = {r: {} for r in self.types}
        for i, n in enumerate(graph.nodes):
            for o in n.inputs:
                self.users[o][i] = None
        self.changed = False

    def at(self, value: str) -> Node:
        return self.nodes[self.places[value]]

    def put(self, place: int, node: Node | None) -> None:
        """Change what stands at a place; a producer that nothing reads any more goes."""
        old = self.nodes.pop(place, None)
        if node is not None:
            self.nodes[place] = node
        for o in node.inputs if node is not None else ():
            self.users[o][place] = None
        for o in dict.fromkeys(old.inputs if old is not None else ()):
            if node is None or o not in node.inputs:
                self.users[o].pop(place, None)
        for r in node.results if node is not None else ():
            self.places[r] = place
        for o in dict.fromkeys(old.inputs if old is not None else ()):
            self.drop(o)
        self.changed = True

    def drop(self, value: str) -> None:
        place = self.places[value]
        node = self.nodes.get(place)
        if (
            node is not None
            and expressions(node)
            and all(r not in self.kept and not self.users[r] for r in node.results)
        ):
            self.put(place, None)

    # ------------------------------------------------------------------------------------------------ one reader

    def absorb(self, name: str) -> None:
        """Put the node's producers into it, as far as they go."""
        place = self.places[name]
        refused: set[str] = set()
        while True:
            node = self.nodes.get(place)
            if node is None or node.name != name:
                return
            value = next((o for o in dict.fromkeys(node.inputs) if o not in refused and self.inlines(o, node)), None)
            if value is None:
                return
            fused = self.inlined(node, value)
            if fused is None:
                refused.add(value)
            else:
                self.put(place, fused)

    def inlines(self, value: str, user: Node) -> bool:
        producer = self.at(value)
        if producer.op == "constant":
            return True
        if value in self.kept or value in self.fixed or len(producer.results) > 1:
            return False
        if producer.op == "reduce_channels" or not expressions(producer):
            return False
        if self.types[value].shape != self.whole(user).shape:
            return False
        readers = [self.nodes.get(i) for i in self.users[value]]
        if len(readers) == 1:
            return True
        # every reader computes it again: worth it when that reads no more memory than storing and reading the result
        return (
            len(readers) == 2
            and self.cheap(producer)
            and all(
                r is not None
                and expressions(r)
                and self.whole(r).shape == self.types[value].shape
                and self.inlined(r, value) is not None
                for r in readers
            )
        )

    def whole(self, node: Node) -> TensorType:
        """The type that a node walks over."""
        if node.op != "reduce_channels":
            return node.type
        return pointwise.result_type([self.types[o] for o in node.inputs])

    def cheap(self, node: Node) -> bool:
        full = {
            f"a{i}" for i, o in enumerate(node.operands) if o is not None and self.types[o].shape == node.type.shape
        }
        tree = expressions(node)[0]
        return len(full) <= 2 and _work(tree, full) <= 10 and not _costly(tree, full)

    def inlined(self, user: Node, value: str) -> Node | None:
        """The user with a producer's expression in place of its value."""
        producer = self.at(value)
        operands = [o for o in user.inputs if o != value]
        operands += [o for o in dict.fromkeys(producer.inputs) if o not in operands]
        size = ex.size(expressions(producer)[0])
        if _too_large(user, {f"a{i}": size for i, o in enumerate(user.operands) if o == value}):
            return None
        inner = ex.rename(expressions(producer)[0], _numbers(producer, operands))
        outer = {k: ex.var(v) for k, v in _numbers(user, operands).items()}
        outer |= {f"a{i}": inner for i, o in enumerate(user.operands) if o == value}
        return self.built(user, operands, [ex.substitute(e, outer) for e in expressions(user)])

    def built(self, user: Node, operands: list[str], trees: list[Expression]) -> Node | None:
        """A node of these expressions in the user's place; None where it would be too large or of another type."""
        operands, trees = _used(operands, trees)
        texts = [ex.text(e) for e in trees]
        if len(operands) > self.limit or any(ex.size(e) > LARGEST for e in trees) or any(len(t) > 2000 for t in texts):
            return None
        op = "reduce_channels" if user.op == "reduce_channels" else "pointwise"
        types = [self.types[o] for o in operands]
        given: dict[str, object] = {"expressions": texts}
        try:
            if op == "pointwise" and pointwise.broadcast_shapes(types) != user.type.shape:
                given["shape"] = user.type.shape
            if op == "reduce_channels" and pointwise.result_type(types).shape != self.whole(user).shape:
                return None
            attributes = Attributes(given)
            if any(t != user.type for t in OPS[op].infer(types, attributes)):
                return None
        except InferenceError:
            return None
        return Node(op, tuple(operands), attributes, user.results, user.types, user.origin)

    # ------------------------------------------------------------------------------------------------ several results

    def merge(self, name: str) -> None:
        """Let the node also write a producer's result that others need, when both can stand in one place."""
        while True:
            node = self.nodes.get(self.places[name])
            if node is None or name not in node.results:
                return
            for value in dict.fromkeys(node.inputs):
                if self.merged(self.places[value], self.places[name]):
                    break
            else:
                return

    def fits(self, producer: Node, user: Node) -> bool:
        """Whether the two may be one node, as far as they themselves go."""
        if producer.op in ("constant", "reduce_channels", "expand") or producer.name in self.fixed:
            return False
        few = len(producer.results) + len(user.results) <= RESULTS
        return few and producer.type == user.type and bool(expressions(producer))

    def common_place(self, first: int, second: int) -> int | None:
        """Where of the two places one node may stand for both; None where others are in the way."""
        producer, user = self.nodes[first], self.nodes[second]
        if all(p > second for r in producer.results for p in self.users[r] if p != second):
            return second
        between = (o for o in user.inputs if o not in producer.results)
        return first if all(self.places[o] < first for o in between) else None

    def merged(self, first: int, second: int) -> bool:
        producer, user = self.nodes[first], self.nodes[second]
        place = self.common_place(first, second) if self.fits(producer, user) else None
        if place is None:
            return False
        operands = list(dict.fromkeys((*producer.inputs, *(o for o in user.inputs if o not in producer.results))))
        sizes = dict(zip(producer.results, map(ex.size, expressions(producer)), strict=True))
        if _too_large(user, {f"a{i}": sizes[o] for i, o in enumerate(user.operands) if o in sizes}):
            return False
        inner = [ex.rename(e, _numbers(producer, operands)) for e in expressions(producer)]
        made = dict(zip(producer.results, inner, strict=True))
        outer = {f"a{i}": made[o] if o in made else ex.var(f"a{operands.index(o)}") for i, o in enumerate(user.inputs)}
        trees = [*inner, *(ex.substitute(e, outer) for e in expressions(user))]
        fused = self.built(user, operands, trees)
        if fused is None or len(fused.operands) < 1:
            return False
        fused = replace(fused, results=(*producer.results, *user.results), types=(*producer.types, *user.types))
        old, away = (first, second) if place == second else (second, first)
        assert away == place
        for o in self.nodes.pop(old).inputs:
            self.users[o].pop(old, None)
        self.put(place, fused)
        return True


def _too_large(user: Node, sizes: Mapping[str, int]) -> bool:
    """Whether a node's expressions are beyond `LARGEST` with others of these sizes in them: y + y doubles what y is."""
    return any(ex.substituted_size(e, sizes) > LARGEST for e in expressions(user))


def _numbers(node: Node, operands: list[str]) -> Mapping[str, str]:
    """a0, a1, ... of a node as they are called over other operands."""
    return {f"a{i}": f"a{operands.index(o)}" for i, o in enumerate(node.operands) if o in operands}


def _used(operands: list[str], trees: list[Expression]) -> tuple[list[str], list[Expression]]:
    """Operands in the order in which the expressions name them, without those that none names."""
    names = dict.fromkeys(v for e in trees for v in ex.variables(e))
    numbers = {v: f"a{i}" for i, v in enumerate(names)}
    return [operands[int(v[1:])] for v in names], [ex.rename(e, numbers) for e in trees]


def _work(tree: Expression, full: set[str]) -> int:
    """How many functions are applied to a whole tensor (over vectors they are computed once a channel)."""
    if tree[0] in ("var", "const") or full.isdisjoint(ex.variables(tree)):
        return 0
    return 1 + sum(_work(a, full) for a in tree[1:])


def _costly(tree: Expression, full: set[str]) -> bool:
    """Whether an expensive function is applied to a whole tensor (over vectors it is computed once a channel)."""
    if tree[0] in ("var", "const"):
        return False
    if tree[0] in EXPENSIVE and not full.isdisjoint(ex.variables(tree)):
        return True
    return any(_costly(a, full) for a in tree[1:])
