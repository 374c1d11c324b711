"""Files: reading, including, and which names each of them sees."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnc.diagnostics import CnncError, Diagnostic, Source, Span, did_you_mean, error
from cnnc.frontend.limits import FILES_LIMIT
from cnnc.frontend.text import syntax as s
from cnnc.frontend.text.scan import read
from cnnc.frontend.text.tree import parse
from cnnc.frontend.values import Module


class Loader:
    """Reads a root file and what it includes. `diagnostics` gathers the errors of names and includes."""

    def __init__(self, root: Path | None) -> None:
        self.root = root  # the folder that includes may not leave; None: there are no includes
        self.diagnostics: list[Diagnostic] = []
        self.loaded: dict[Path, Module] = {}
        self.pending: list[Path] = []

    def report(self, code: str, message: str, span: Span, *notes: str, help: str | None = None) -> None:
        self.diagnostics.append(Diagnostic(code, message, span, notes, help))

    def module(self, tree: s.File, path: Path | None) -> Module:
        """The module of a file: its own items, then those of what it includes."""
        result = Module()
        if path is not None:
            self.pending.append(path)
        where: dict[str, Span] = {}
        for item in tree.items:
            if isinstance(item, s.Train):
                if result.trains:
                    first = result.trains[0][0].span
                    self.report("E0303", "there is a train block already", item.span, f"the first is at {first}")
                result.trains.append((item, result))
            elif not isinstance(item, s.Include):
                table: dict[str, tuple[Any, Module]] = self._table(result, item)
                name = item.name.name
                if name in where:
                    self.report("E0303", f"{name} is defined twice", item.name.span, f"the first is at {where[name]}")
                where[name] = item.name.span
                table[name] = (item, result)
                result.defined.add(name)
        for item in tree.items:
            if isinstance(item, s.Include):
                included = self.include(item, path)
                if included is not None:
                    self._merge(result, included, item, where)
        if path is not None:
            self.pending.pop()
        return result

    @staticmethod
    def _table(module: Module, item: s.Item) -> dict[str, Any]:
        if isinstance(item, s.Const):
            return module.consts
        if isinstance(item, s.Activation):
            return module.activations
        return module.blocks if isinstance(item, s.Block) else module.models

    def _merge(self, module: Module, included: Module, item: s.Include, where: dict[str, Span]) -> None:
        tables: list[tuple[Mapping[str, Any], dict[str, Any]]] = [
            (included.consts, module.consts),
            (included.blocks, module.blocks),
            (included.models, module.models),
            (included.activations, module.activations),
        ]
        for source, target in tables:
            for name, entry in source.items():
                if name in where and target.get(name) is not entry and self._other(module, name, entry):
                    what = f'{name} of "{item.path}" is defined already'
                    self.report("E0303", what, item.span, f"the other is at {where[name]}")
                else:
                    where.setdefault(name, entry[0].name.span)
                    target.setdefault(name, entry)
        module.trains += [] if module.trains else included.trains[:1]

    @staticmethod
    def _other(module: Module, name: str, entry: tuple[Any, Module]) -> bool:
        """Whether a name stands for another item already; the same file may be included along two ways."""
        tables: list[dict[str, Any]] = [module.consts, module.blocks, module.models, module.activations]
        known = next((table[name] for table in tables if name in table), None)
        return known is None or known[0] is not entry[0]

    def include(self, item: s.Include, path: Path | None) -> Module | None:
        """The module of an included file; None where there is none, and why is recorded."""
        try:
            target = self._target(item, path)
            if target not in self.loaded:
                self.loaded[target] = self.module(self._parsed(target, item), target)
            return self.loaded[target]
        except CnncError as e:
            self.diagnostics += e.diagnostics
            return None

    def _target(self, item: s.Include, path: Path | None) -> Path:
        """The file that an item of the file `path` includes. Raises `CnncError` (E0313) where it may not."""
        name = item.path
        if self.root is None or path is None:
            raise error("E0313", "a text that is not from a file cannot include files", span=item.span)
        if not name or "\\" in name or Path(name).is_absolute() or ":" in name:
            help = "a path is relative to the including file, with '/' between folders"
            raise error("E0313", f'"{name}" is no file beside this one', span=item.span, help=help)
        try:
            target = (path.parent / name).resolve()
            outside = not target.is_relative_to(self.root)
        except (OSError, ValueError, RuntimeError):
            raise error("E0313", f'"{name}" cannot be found', span=item.span) from None
        if outside:
            help = "included files lie in that folder or below it"
            raise error("E0313", f'"{name}" is outside the folder of the model file', span=item.span, help=help)
        if target in self.pending:
            chain = [*(p.name for p in self.pending[self.pending.index(target) :]), target.name]
            raise error("E0313", f"files include each other: {' -> '.join(chain)}", span=item.span)
        if target not in self.loaded and (len(self.loaded) >= FILES_LIMIT or len(self.pending) >= 32):
            raise error("E0313", f"more than {FILES_LIMIT} files are included", span=item.span)
        return target

    def _parsed(self, target: Path, item: s.Include) -> s.File:
        """The syntax tree of an included file. What is wrong with the file as a whole is said of the item."""
        assert self.root is not None
        try:
            return parse(read(target, shown=str(target.relative_to(self.root))))
        except CnncError as e:
            near = did_you_mean(Path(item.path).name, self._files(target.parent))
            raise CnncError(
                d if d.span is not None else Diagnostic("E0313", d.message, item.span, d.notes, near)
                for d in e.diagnostics
            ) from None

    @staticmethod
    def _files(folder: Path) -> list[str]:
        try:
            return sorted(p.name for p in folder.iterdir() if p.suffix == ".cnn")
        except OSError:
            return []


def root_module(source: Source, path: Path | None) -> tuple[Module, list[Diagnostic]]:
    """The module of a root file and the errors of its includes. Raises `CnncError` for its own syntax errors."""
    resolved = path.resolve() if path is not None else None
    loader = Loader(resolved.parent if resolved is not None else None)
    module = loader.module(parse(source), resolved)
    return module, loader.diagnostics
