"""How large functions and modules may be: as the largest are. The numbers below only go down: whoever makes one of them
smaller writes the smaller one.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
Function = ast.FunctionDef | ast.AsyncFunctionDef
# Too much: so many arguments, and above so much complexity, so many lines of a function, or of a module.
MANY, COMPLEX, LONG, LARGE = 10, 20, 100, 400
LIMITS = {  # how often there is too much
    "cnnc": {"arguments": 0, "complexity": 0, "lines": 0, "modules": 0},
    "kernels": {"arguments": 0, "complexity": 2, "lines": 0, "modules": 0},
}
LONGEST, MOST_COMPLEX, MOST_ARGUMENTS = 96, 32, 13
LOOSE = 25  # modules whose functions may lack types


def modules() -> list[Path]:
    return sorted(p for folder in ("cnnc", "kernels") for p in (ROOT / folder).rglob("*.py"))


def functions(tree: ast.Module) -> Iterator[Function]:
    """All of them: methods, and those within others too."""
    yield from (node for node in ast.walk(tree) if isinstance(node, Function))


def is_command(function: Function) -> bool:
    """Whether the arguments are a command's options."""
    return any(
        isinstance(d, ast.Call) and isinstance(d.func, ast.Name) and d.func.id == "define"
        for d in function.decorator_list
    )


def arguments(function: Function) -> int:
    a = function.args
    return len(a.posonlyargs) + len(a.args) + len(a.kwonlyargs) + bool(a.vararg) + bool(a.kwarg)


def lines(function: Function) -> int:
    """Without decorators."""
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1


def complexity(function: Function) -> int:
    """McCabe's, as radon counts it: ways through the function, without those through functions and classes within it."""
    waiting: list[ast.AST] = list(function.body)
    total = 1
    while waiting:
        node = waiting.pop()
        if not isinstance(node, Function | ast.ClassDef):
            total += ways(node)
            waiting += [] if isinstance(node, ast.Assert) else ast.iter_child_nodes(node)
    return total


def ways(node: ast.AST) -> int:
    """How many more there are with a node than without."""
    match node:
        case ast.BoolOp():
            return len(node.values) - 1
        case ast.comprehension():
            return 1 + len(node.ifs)
        case ast.Try():
            return len(node.handlers) + bool(node.orelse)
        case ast.For() | ast.While() | ast.AsyncFor():
            return 1 + bool(node.orelse)
        case ast.Match():
            return len(node.cases) - any(
                isinstance(c.pattern, ast.MatchAs) and not c.pattern.pattern for c in node.cases
            )
        case ast.If() | ast.IfExp() | ast.Assert():
            return 1
    return 0


@dataclass(frozen=True)
class Size:
    """A function's."""

    where: str
    arguments: int
    complexity: int
    lines: int
    counts: bool  # whether its arguments do: a command's are options, and those of one within another are as that passes them


@pytest.fixture(scope="module")
def sizes() -> list[Size]:
    found = []
    for path in modules():
        every = list(functions(ast.parse(path.read_text(encoding="utf-8"))))
        end = 0  # the last line of the last function that stands in no other
        for f in sorted(every, key=lambda f: f.lineno):
            outermost = f.lineno > end
            end = max(end, f.end_lineno or 0)
            where = f"{path.relative_to(ROOT)}:{f.lineno} {f.name}"
            found.append(Size(where, arguments(f), complexity(f), lines(f), outermost and not is_command(f)))
    return found


@pytest.mark.parametrize(("folder", "kind"), [(folder, kind) for folder in LIMITS for kind in LIMITS[folder]])
def test_no_more_is_too_large(folder: str, kind: str, sizes: list[Size]) -> None:
    sizes = [s for s in sizes if s.where.startswith(folder)]
    if kind == "modules":
        counts = {p: len(p.read_text(encoding="utf-8").splitlines()) for p in modules()}
        names = {p.relative_to(ROOT).as_posix(): n for p, n in counts.items()}
        found = [f"{name} has {n} lines" for name, n in names.items() if name.startswith(folder) and n > LARGE]
    elif kind == "arguments":
        found = [f"{s.where} has {s.arguments}" for s in sizes if s.counts and s.arguments >= MANY]
    elif kind == "complexity":
        found = [f"{s.where} is of {s.complexity}" for s in sizes if s.complexity > COMPLEX]
    else:
        found = [f"{s.where} has {s.lines}" for s in sizes if s.lines > LONG]
    assert len(found) <= LIMITS[folder][kind], "\n".join(found)


def test_the_longest_function_and_the_most_ways(sizes: list[Size]) -> None:
    assert max(s.lines for s in sizes) <= LONGEST
    assert max(s.complexity for s in sizes) <= MOST_COMPLEX
    assert max(s.arguments for s in sizes) <= MOST_ARGUMENTS


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("return x", 1),
        ("if x and y or z:\n        return 1", 4),
        ("return [a if a else b for a in x if a if b]", 5),
        ("for a in x:\n        pass\n    else:\n        pass", 3),
        ("try:\n        pass\n    except ValueError:\n        pass\n    else:\n        pass", 3),
        ("match x:\n        case 1: pass\n        case 2: pass\n        case _: pass", 3),
        ("def g():\n        if x: pass\n    assert x, y and z", 2),
    ],
)
def test_complexity_is_counted_as_radon_does(text: str, count: int) -> None:
    assert complexity(next(functions(ast.parse(f"def f(x, y, z):\n    {text}\n")))) == count


def test_all_that_plans_is_checked_strictly() -> None:
    """Functions for Numba need no types."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]
    assert settings["strict"]
    assert {"cnnc", "kernels"} <= set(settings["packages"])
    loose = [m for o in settings["overrides"] if not o.get("disallow_untyped_defs", True) for m in o["module"]]
    for module in loose:
        path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
        assert path.is_file(), module
        assert not path.stem.endswith("plan"), module
        assert path.stem not in ("launches", "problem", "cost", "target"), module
    assert len(loose) <= LOOSE
