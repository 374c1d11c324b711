"""Pointwise math, written once.

An expression is a nested tuple: `("var", "a0")`, `("const", 0.5)` or `(function, argument, ...)`. From the one
expression come the NumPy reference (`evaluate`), the derivative (`differentiate`), and the CPU and CUDA code, which the
kernels emit from the tuples. Its text is infix and is read by Python's own parser: `where(a0 < 0, 0, a0)`.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

Expression = tuple[Any, ...]
LARGEST = 128  # functions in an expression that is read


def _sigmoid(a: Any) -> Any:
    """1 / (1 + exp(-a)), by exp of the negative size alone: nothing overflows, and both tails keep their digits."""
    e = np.exp(-np.abs(a))
    return np.where(a < 0, e, 1) / (1 + e)


def _each(function: Callable[[float], float]) -> Callable[[Any], Any]:
    """A function of Python's numbers on arrays."""
    return lambda a: np.vectorize(function, otypes=[np.float64])(a)


def _truth(compare: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda a, b: compare(a, b).astype(np.float64)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "neg": np.negative,
    # NaN wins, as in IEEE 754-2019 maximum and minimum
    "max": np.maximum,
    "min": np.minimum,
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sigmoid": _sigmoid,
    "softplus": lambda a: np.logaddexp(0, a),  # log(1 + exp(a))
    "tanh": np.tanh,
    "sqrt": np.sqrt,
    "pow": np.power,
    "abs": np.abs,
    "sign": np.sign,
    "floor": np.floor,
    "erf": _each(math.erf),
    # the normal distribution: its part below a, and its density, whose tails 1 + erf(a) would lose
    "normal_cdf": _each(lambda a: math.erfc(-a / math.sqrt(2)) / 2),
    "normal_pdf": lambda a: np.exp(-0.5 * a * a) / math.sqrt(2 * math.pi),
    "gt": _truth(np.greater),
    "ge": _truth(np.greater_equal),
    "eq": _truth(np.equal),
    "ne": _truth(np.not_equal),
    "where": lambda c, a, b: np.where(c != 0, a, b),
}
ARITY = dict.fromkeys(FUNCTIONS, 1) | dict.fromkeys(
    ("add", "sub", "mul", "div", "max", "min", "pow", "gt", "ge", "eq", "ne"), 2
)
ARITY["where"] = 3
COMPARISONS = ("gt", "ge", "eq", "ne")  # 1 where it holds, 0 elsewhere
_INFIX = {
    "add": ("+", 2), "sub": ("-", 2), "mul": ("*", 3), "div": ("/", 3),
    "gt": (">", 1), "ge": (">=", 1), "eq": ("==", 1), "ne": ("!=", 1),
}  # fmt: skip
_COMPARE: dict[type, tuple[str, bool]] = {  # and whether the sides change places
    ast.Gt: ("gt", False), ast.GtE: ("ge", False), ast.Lt: ("gt", True), ast.LtE: ("ge", True),
    ast.Eq: ("eq", False), ast.NotEq: ("ne", False),
}  # fmt: skip
_BINARY: dict[type, str] = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div"}


def const(value: float) -> Expression:
    return ("const", float(value))


def var(name: str) -> Expression:
    return ("var", name)


@lru_cache(maxsize=4096)
def parse(text: str) -> Expression:
    """The expression of a text. Raises ValueError that says what is not understood."""
    if len(text) > 10_000:
        raise ValueError("the expression is longer than 10,000 characters")
    try:
        tree = ast.parse(text.strip(), mode="eval")
        expression = _convert(tree.body)
        if size(expression) > LARGEST:
            raise ValueError(f"the expression has {size(expression)} functions, {LARGEST} are the limit")
        return expression
    except OverflowError:
        raise ValueError("the expression has a number that no float64 holds") from None
    except SyntaxError as e:
        raise ValueError(f"'{text}' is not an expression: {e.msg}") from None
    except (RecursionError, MemoryError):
        raise ValueError("the expression is nested too deeply") from None


def _convert(node: ast.expr) -> Expression:
    match node:
        case ast.Constant(value=bool()):
            pass
        case ast.Constant(value=int() | float() as value):
            return const(float(value))
        case ast.Name(id="inf"):
            return const(float("inf"))
        case ast.Name(id=name):
            return var(name)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Name(id="inf")):
            return const(float("-inf"))
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return const(-float(value))
        case ast.UnaryOp(op=ast.USub(), operand=a):
            return ("neg", _convert(a))
        case ast.BinOp(left=a, op=op, right=b) if type(op) in _BINARY:
            return (_BINARY[type(op)], _convert(a), _convert(b))
        case ast.Compare(left=a, ops=[op], comparators=[b]) if type(op) in _COMPARE:
            name, swapped = _COMPARE[type(op)]
            left, right = (b, a) if swapped else (a, b)
            return (name, _convert(left), _convert(right))
        case ast.Call(func=ast.Name(id=f), args=args, keywords=[]) if f in FUNCTIONS:
            if len(args) != ARITY[f]:
                raise ValueError(f"{f} takes {ARITY[f]} arguments, not {len(args)}")
            return (f, *map(_convert, args))
        case ast.Call(func=ast.Name(id=f)):
            raise ValueError(f"unknown function '{f}' in an expression")
    raise ValueError(f"'{ast.unparse(node)}' cannot stand in an expression")


def _is_minus_zero(value: float) -> bool:
    return value == 0 and math.copysign(1, value) < 0


def text(e: Expression, outer: int = 0) -> str:
    """The text that `parse` reads back to the same expression."""
    head = e[0]
    if head == "var":
        return str(e[1])
    if head == "const":
        value = e[1]
        shown = (
            str(int(value)) if abs(value) < 1e15 and value == int(value) and not _is_minus_zero(value) else repr(value)
        )
        return f"({shown})" if shown[0] == "-" and outer > 1 else shown
    if head == "neg" and e[1][0] == "const":
        return f"neg({text(e[1])})"  # -1 is read as a number
    if head == "neg":
        return f"(-{text(e[1], 4)})" if outer > 1 else f"-{text(e[1], 4)}"
    if head in _INFIX:
        sign, level = _INFIX[head]
        left = text(e[1], 2 if e[1][0] in COMPARISONS else level)  # a > b > c would be a chain
        shown = f"{left} {sign} {text(e[2], level + 1)}"
        return f"({shown})" if level < outer else shown
    return f"{head}({', '.join(text(a) for a in e[1:])})"


def variables(e: Expression) -> tuple[str, ...]:
    """The names in an expression, in order of first appearance."""
    found: dict[str, None] = {}

    def walk(e: Expression) -> None:
        if e[0] == "var":
            found[e[1]] = None
        elif e[0] != "const":
            for a in e[1:]:
                walk(a)

    walk(e)
    return tuple(found)


def substitute(e: Expression, values: Mapping[str, Expression]) -> Expression:
    if e[0] == "var":
        return values.get(e[1], e)
    return e if e[0] == "const" else (e[0], *(substitute(a, values) for a in e[1:]))


def rename(e: Expression, names: Mapping[str, str]) -> Expression:
    return substitute(e, {k: var(v) for k, v in names.items()})


def size(e: Expression) -> int:
    """The number of functions in an expression."""
    return 0 if e[0] in ("var", "const") else 1 + sum(size(a) for a in e[1:])


def substituted_size(e: Expression, sizes: Mapping[str, int]) -> int:
    """`size` of the expression with others of these sizes in place of variables, without making it."""
    if e[0] == "var":
        return sizes.get(e[1], 0)
    return 0 if e[0] == "const" else 1 + sum(substituted_size(a, sizes) for a in e[1:])


def taken_apart(e: Expression, most: int) -> tuple[Expression, dict[str, Expression]]:
    """An expression of at most so many functions, over variables part0, part1, ... that stand for others, in the order in
    which they can be computed: what occurs most often, and is large, is taken out.
    """
    parts: dict[str, Expression] = {}
    while size(e) > most:
        found: dict[Expression, int] = {}
        waiting = [e]
        while waiting:
            one = waiting.pop()
            if one[0] not in ("var", "const"):
                found[one] = found.get(one, 0) + 1
                waiting += one[1:]
        fitting = {one: count * size(one) for one, count in found.items() if size(one) <= most and one != e}
        best = max(fitting, key=lambda one: (fitting[one], size(one)))
        name = f"part{len(parts)}"
        parts[name] = best
        e = _replaced(e, best, var(name))
    return e, parts


def _replaced(e: Expression, old: Expression, new: Expression) -> Expression:
    if e == old:
        return new
    return e if e[0] in ("var", "const") else (e[0], *(_replaced(a, old, new) for a in e[1:]))


def evaluate(e: Expression, values: Mapping[str, Any]) -> Any:
    """The reference: NumPy in the arrays' own precision, quiet about overflow and NaN."""
    with np.errstate(all="ignore"):
        return _evaluate(e, values)


def _evaluate(e: Expression, values: Mapping[str, Any]) -> Any:
    if e[0] == "var":
        return values[e[1]]
    if e[0] == "const":
        return e[1]
    return FUNCTIONS[e[0]](*(_evaluate(a, values) for a in e[1:]))


def simplify(e: Expression) -> Expression:
    """Constants folded; `x + 0`, `x * 1`, `x * 0`, `--x` and equal branches reduced. (`x * 0` is 0 also where x is not
    finite.)
    """
    if e[0] in ("var", "const"):
        return e
    head, *rest = e
    a = [simplify(x) for x in rest]
    if all(x[0] == "const" for x in a):
        value = float(evaluate((head, *a), {}))
        if np.isfinite(value):
            return const(value)
    reduce = _REDUCTIONS.get(head)
    found = reduce(head, a) if reduce is not None else None
    return (head, *a) if found is None else found


def _sum(head: str, a: list[Expression]) -> Expression | None:
    """A sum, difference or negation, reduced; None where it stays."""
    zero = const(0)
    match head, a:
        case ("add" | "sub", [x, y]) if y == zero:
            return x
        case ("add", [x, y]) if x == zero:
            return y
        case ("add", [x, ("neg", y)]):
            return ("sub", x, y)
        case ("sub", [x, y]) if x == zero:
            return simplify(("neg", y))
        case ("neg", [("neg", inner)]):
            return tuple(inner)
    return None


def _product(head: str, a: list[Expression]) -> Expression | None:
    """A product, quotient or power, reduced; None where it stays."""
    zero, one = const(0), const(1)
    match head, a:
        case ("mul", [x, y]) if zero in (x, y):
            return zero
        case ("mul", [x, y]) if x == one:
            return y
        case ("mul" | "div", [x, y]) if y == one:
            return x
        case ("div", [x, y]) if x == zero:
            return zero
        case ("mul", [x, ("where", c, y, z)]) if _is_mask(y) and _is_mask(z):
            return simplify(("where", c, ("mul", x, y), ("mul", x, z)))
        case ("pow", [x, ("const", 0.5)]):
            return ("sqrt", x)
        case ("pow", [x, ("const", -1)]):
            return ("div", one, x)
        case ("pow", [x, ("const", power)]) if power in (0, 1, 2, 3):
            return (one, x, ("mul", x, x), ("mul", ("mul", x, x), x))[int(power)]
    return None


def _choice(head: str, a: list[Expression]) -> Expression | None:
    """A `where` or a comparison, reduced; None where it stays."""
    match head, a:
        case ("where", [c, x, y]) if x == y:
            return x
        case ("where", [("const", c), x, y]):
            return x if c != 0 else y
        case ("gt", [x, y]) if y == const(math.inf) or x == const(-math.inf):
            return const(0)
    return None


_REDUCTIONS: dict[str, Callable[[str, list[Expression]], Expression | None]] = {
    **dict.fromkeys(("add", "sub", "neg"), _sum),
    **dict.fromkeys(("mul", "div", "pow"), _product),
    **dict.fromkeys(("where", "gt"), _choice),
}


def _is_mask(e: Expression) -> bool:
    """Whether the value is 0 or 1."""
    return e in (const(0), const(1)) or (e[0] == "where" and _is_mask(e[2]) and _is_mask(e[3]))


def keeps_zero(e: Expression, zeros: frozenset[str]) -> bool:
    """Whether the value is 0 where the variables named are 0, whatever finite values the others take."""
    probes = [{v: 0.0 if v in zeros else x for v in variables(e)} for x in (-1.25, 0.0, 0.75, 3.0)]
    return all(float(evaluate(e, p)) == 0 for p in probes)
