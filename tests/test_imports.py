"""The source tree: imports run one way, targets are named in few places, and what is heavy is imported late."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import networkx
import pytest

import cnnc.ops  # noqa: F401  (registers the ops)
from cnnc.drawing import cards
from cnnc.ir.op import OPS
from cnnc.kernels.cpu.code import link, sources

ROOT = Path(__file__).parent.parent

# A part sees those to its left and itself. Parts in one group do not see each other, unless ALSO says so.
ORDER = [
    ["files", "streams"],
    ["storage", "table", "locks", "forks"],
    ["diagnostics", "codes", "untrusted"],
    ["arguments", "foreign", "spread"],
    ["ir"],
    ["ops"],
    ["frontend", "passes", "describe"],
    ["lowering"],
    ["runtime"],
    ["backends"],
    ["interop", "data", "summary", "manual", "drawing", "loaded", "trace"],
    ["weight_files"],
    ["network", "artifact", "notebook"],
    ["open_sizes"],
    ["onnx_models"],
    ["driver"],
    ["train", "bench", "stats", "onnx_backend"],
    ["cli"],
    ["__main__"],
]
RANK = {part: rank for rank, group in enumerate(ORDER) for part in group}
ALLOWED_MORE = {
    "frontend": {"arguments", "foreign", "untrusted", "storage", "diagnostics", "codes", "ir", "ops", "frontend"}
}
OUTSIDE = {"examples", "grammars", "kernels"}


def modules() -> list[Path]:
    return sorted((ROOT / "cnnc").rglob("*.py"))


def part_of(path: Path) -> str:
    return path.relative_to(ROOT / "cnnc").parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> Iterator[str]:
    """The absolute names of the cnnc modules that a module imports, wherever it does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports in cnnc are absolute"
            name = node.module or ""
            yield from (f"{name}.{alias.name}" for alias in node.names) if name == "cnnc" else (name,)


def parts_seen(tree: ast.AST) -> set[str]:
    return {name.split(".")[1] for name in imported(tree) if name.startswith("cnnc.")}


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    part, seen = part_of(path), parts_seen(ast.parse(path.read_text()))
    if part == "__init__":
        return
    assert part in RANK, f"{part} has no place in the order"
    known = {p for p in RANK if RANK[p] < RANK[part]} | {part, "__version__"}
    wrong = seen - OUTSIDE - ALLOWED_MORE.get(part, known)
    assert not wrong, f"{path.name} imports {', '.join(sorted(wrong))}"
    if "kernels" in seen:
        assert part == "backends", "only a backend loads kernels"


# A room of the kernels sees those before it and itself.
ROOMS = [
    ["__init__"], ["target"], ["launches", "problem"], ["cost"], ["code"], ["probe", "steps", "elementwise", "move"], ["conv"],
    ["depthwise", "winograd", "linear", "normalize", "pool"], ["volume"],
]  # fmt: skip


def test_rooms_of_kernels_see_those_before_them() -> None:
    rank = {room: i for i, rooms in enumerate(ROOMS) for room in rooms}
    for path in sources._sources():
        room = path.split("/")[0].removesuffix(".py")
        for seen in sources._imported(path) if path.endswith(".py") else ():
            other = seen.split("/")[0].removesuffix(".py")
            assert other == room or rank[other] < rank[room], f"{path} imports {seen}"


def test_plans_are_made_without_compilers() -> None:
    """`plan.py` and `x_plan.py`, which plans `x.py`: pure Python and NumPy."""
    plans = [p for p in sources._sources() if p.endswith(("/plan.py", "_plan.py"))]
    assert len(plans) > 15
    for plan in plans:
        if plan.endswith("_plan.py"):
            assert plan.replace("_plan.py", ".py") in sources._sources()
    code = "\n".join(f"import cnnc.kernels.cpu.{p.removesuffix('.py').replace('/', '.')}" for p in plans)
    others = [p.relative_to(ROOT) for p in sorted((ROOT / "kernels" / "cuda").rglob("*_plan.py"))]
    assert len(others) > 4
    code += "".join(f"\nimport cnnc.{str(p.with_suffix('')).replace('/', '.')}" for p in others)
    assert not loaded(code) & {"numba", "llvmlite"}


@pytest.mark.parametrize("path", sorted((ROOT / "kernels").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_kernels_stand_alone(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names = (
            [a.name for a in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom) and node.level == 0
            else []
        )
        for name in names:
            top = name.split(".")[0]
            assert top in {"numpy", "numba", "llvmlite"} or top in sys.stdlib_module_names, name


# What is left out where circles are looked for, and why: a module with all that it imports, and one import.
APART = {"cnnc": "it is loaded before any of its modules, and looks its public names up when they are asked for"}
LATER = {("cnnc.ir.display", "cnnc.notebook"): "a notebook asks values how they look, and what draws them is far above"}


def dotted(path: Path) -> str:
    """The name under which a file of the package is imported; `kernels` is `cnnc.kernels`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(p for p in ("cnnc", *parts[parts[0] == "cnnc" :]) if p != "__init__")


def imports() -> networkx.DiGraph[str]:
    """From each module of the package to those that it imports: at its top, in a function, for its types alone, or by a
    name in quotes.
    """
    paths = {dotted(p): p for p in [*modules(), *(ROOT / "kernels").rglob("*.py")]}
    graph: networkx.DiGraph[str] = networkx.DiGraph()
    for module, path in paths.items():
        package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                start = package[: len(package) - node.level + 1] if node.level else []
                whole = ".".join([*start, *([node.module] if node.module else [])])
                names = [n if (n := f"{whole}.{alias.name}") in paths else whole for alias in node.names]
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
                names = [a.value for a in node.args if isinstance(a, ast.Constant)]
            graph.add_edges_from((module, name) for name in names if name in paths and name != module)
    return graph


def test_imports_go_in_no_circle() -> None:
    """Neither at the top of modules, nor in functions, for types alone, or by names in quotes."""
    graph = imports()
    assert {("cnnc.ir.text", "cnnc.ir.graph"), ("cnnc.cli.opt", "cnnc.ir.text")} <= set(graph.edges)
    assert any(b.startswith("cnnc.kernels.cpu.") for _, b in graph.edges)
    assert set(APART) <= set(graph)
    assert set(LATER) <= set(graph.edges)
    graph.remove_nodes_from(APART)
    graph.remove_edges_from(LATER)
    circles = [sorted(c) for c in networkx.strongly_connected_components(graph) if len(c) > 1]
    assert not circles, "\n".join(f"{a} imports {b}" for c in circles for a, b in graph.subgraph(c).edges)


NAMELESS = ["summary.py", "describe.py", *(f"drawing/{p.name}" for p in (ROOT / "cnnc/drawing").glob("*.py"))]


@pytest.mark.parametrize("name", NAMELESS)
def test_what_shows_graphs_names_no_op(name: str) -> None:
    """How an op is shown is in its record."""
    texts = {n.value for n in ast.walk(ast.parse((ROOT / "cnnc" / name).read_text())) if isinstance(n, ast.Constant)}
    assert not texts & (set(OPS) - set(cards.COLORS))  # some kinds are called as ops are


def test_kinds_of_ops_have_colors() -> None:
    assert {op.kind for op in OPS.values()} | {"terminal"} == set(cards.COLORS) == set(cards.DARK)


TARGETS = re.compile(r"\b(cuda|ptx|nvptx|avx\w*|sse\d?|neon|x86(_64)?|aarch64)\b", re.IGNORECASE)
NAMED = {"backends", "bench", "cli", "codes"}  # the peers' switches, the options, and the texts that explain them


@pytest.mark.parametrize(
    "path", [p for p in modules() if part_of(p) not in NAMED], ids=lambda p: str(p.relative_to(ROOT))
)
def test_targets_are_not_named(path: Path) -> None:
    tree = ast.parse(path.read_text())
    docs = {
        id(n.body[0].value)
        for n in ast.walk(tree)
        if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef) and n.body and isinstance(n.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        texts = (
            [node.value]
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
            else [node.id]
            if isinstance(node, ast.Name)
            else [node.attr]
            if isinstance(node, ast.Attribute)
            else [node.name]
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
            else []
        )
        for text in texts:
            assert not TARGETS.search(text.replace("_", " ") if "x86" not in text else text), (
                f"line {node.lineno}: {text}"
            )


def loaded(code: str) -> set[str]:
    """The top-level packages that a fresh interpreter has imported after some code."""
    program = f"{code}\nimport sys; print('\\n' + ' '.join(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def test_importing_cnnc_is_light() -> None:
    assert not loaded("import cnnc") & {"numba", "llvmlite", "torch", "onnx"}


@pytest.mark.slow
@pytest.mark.skipif(not link.usable(), reason="LLVM loads the code here")
def test_running_is_light() -> None:
    """Where kernels are known, neither LLVM nor Numba is loaded."""
    code = "import cnnc, numpy as np\ncnnc.compile(cnnc.load('examples/lenet5.cnn'))(np.zeros((1, 1, 28, 28), 'f4'))"
    loaded(code)
    assert not loaded(code) & {"llvmlite", "numba"}


HELP = "from cnnc.cli.main import cli\ntry:\n cli.main({})\nexcept SystemExit as e:\n assert e.code == 0, e.code"
HEAVY = {"numpy", "numba", "llvmlite", "lark", "networkx", "rich", "PIL", "safetensors", "platformdirs", "torch"}


def test_help_is_light() -> None:
    assert not loaded(HELP.format(["--help"])) & HEAVY


@pytest.mark.parametrize(
    "command",
    [
        "check",
        "summary",
        "ir",
        "opt",
        "graph",
        "compile",
        "run",
        "train",
        "bench",
        "export",
        "gradcheck",
        "doctor",
        "cache",
        "explain",
        "new",
    ],
)
def test_help_of_a_command_is_light(command: str) -> None:
    assert not loaded(HELP.format([command, "--help"])) & (HEAVY - {"lark", "numpy"})
