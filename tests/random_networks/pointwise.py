"""What random networks have of functions of single numbers: operators, activations, formulas as users write them."""

from __future__ import annotations

from tests.random_networks.maker import Kinds, Maker
from tests.random_networks.windows import activated, convolved

SMOOTH = ("sigmoid", "tanh", "exp", "log", "sqrt", "gelu", "gelu_tanh", "softplus", "erf", "log1p", "silu", "elu")
COMPARISONS = (">", ">=", "<", "<=", "==", "!=")


def smooth(m: Maker) -> str:
    x, op = m.any(), m.one(SMOOTH)
    if op == "exp":
        x = m.add("tanh", [x])
    elif op in ("log", "sqrt", "log1p"):
        x = m.positive(x)
    return m.add(op, [x])


def binary(m: Maker) -> str:
    x, op = m.any(), m.one(("add", "sub", "mul"))
    pair = [x, m.partner(x)]
    return m.add(op, pair if m.chance(50) else pair[::-1])


def choice(m: Maker) -> str:
    """The larger or the smaller of two, or by comparing them; or a weighted half-line."""
    x = m.any()
    pair, kind = [x, m.partner(x)], m.below(5)
    if kind < 2:
        return m.add(("maximum", "minimum")[kind], pair)
    if kind == 2:
        return m.add("where", [m.add(m.one(("gt", "ge", "eq", "ne")), pair), *pair])
    if kind == 3:
        return m.add(m.one(("gt", "ge", "eq", "ne")), pair)
    return m.add(m.one(("prelu", "swish")), pair)


def division(m: Maker) -> str:
    x = m.any()
    return m.add("div", [x, m.positive(m.partner(x))])


def term(m: Maker, depth: int, variables: int) -> str:
    """A formula's text, defined and of moderate size wherever its variables are."""
    if depth == 0 or m.chance(15):
        return f"a{m.below(variables)}" if m.chance(75) else str(m.one((0.5, 1, 2, -1, 3)))
    a, b = term(m, depth - 1, variables), term(m, depth - 1, variables)
    exact = [f"({a} + {b})", f"({a} - {b})", f"max({a}, {b})", f"min({a}, {b})", f"abs({a})", f"-({a})"]
    exact.append(f"where({a} {m.one(COMPARISONS)} {b}, {b}, {a})")
    if depth > 1 and not m.whole:
        exact.append(f"({a} * {b})")
        exact += [f"{function}({a})" for function in ("sigmoid", "tanh", "erf", "softplus")]
        exact += [f"exp(-abs({a}))", f"log1p(abs({a}))", f"sqrt(1 + abs({a}))", f"({a}) / (1 + abs({b}))"]
    return m.one(exact)


def formula(m: Maker) -> str:
    """An activation as it is written in a file, with a parameter of its own now and then."""
    x = m.any()
    operands = [x, m.partner(x)] if m.chance(50) else [x]
    text = term(m, 1 + m.below(3), len(operands))
    if "a0" not in text:
        text = f"a0 + {text}"
    return m.add("pointwise", operands, expressions=[text])


def gate(m: Maker) -> str | None:
    """Squeeze and excitation: x times a number in 0..1 for each channel."""
    x = m.image()
    if x is None:
        return None
    one = (1,) * (m.b.type(x).rank - 2)
    weight = convolved(m, m.add("global_avgpool", [x]), {"kernel": one}, int(m.sizes(x)[1]))
    return None if weight is None else m.add("mul", [x, m.add("sigmoid", [weight])])


KINDS: Kinds = {
    "activation": (lambda m: activated(m, m.any()), 3, 3),
    "smooth": (smooth, 0, 2),
    "binary": (binary, 4, 4),
    "choice": (choice, 1, 1),
    "division": (division, 0, 1),
    "formula": (formula, 2, 2),
    "gate": (gate, 0, 1),
}
