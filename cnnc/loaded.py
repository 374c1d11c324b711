"""What a file of weights had and had not, and how that is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cnnc.diagnostics import Diagnostic

SHOWN = 8  # names that a message lists


@dataclass(frozen=True)
class Loaded:
    """What a file of weights had and had not: `mismatched` by name, (shape in the network, shape in the file)."""

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)

    @staticmethod
    def of(shapes: Mapping[str, tuple[int, ...]], present: Mapping[str, tuple[int, ...]]) -> Loaded:
        """From the shapes of the network, and those in the file."""
        return Loaded(
            tuple(n for n in shapes if n not in present),
            tuple(sorted(n for n in present if n not in shapes)),
            {n: (s, present[n]) for n, s in shapes.items() if n in present and present[n] != s},
        )

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.mismatched)

    def diagnostic(self, path: Path, total: int) -> Diagnostic:
        def listed(names: tuple[str, ...]) -> str:
            return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")

        notes, help = [], None
        if self.missing:
            notes.append(f"missing in the file, {len(self.missing)} of {total}: {listed(self.missing)}")
        if self.unexpected:
            notes.append(f"unexpected, {len(self.unexpected)}: {listed(self.unexpected)}")
        if self.mismatched:
            shown = tuple(
                f"{n} is {list(a)} in the network and {list(b)} in the file" for n, (a, b) in self.mismatched.items()
            )
            notes.append(f"mismatched, {len(shown)}: {listed(shown)}")
        known = set(self.missing)
        prefix = next(
            (
                p
                for p in ("module.", "model.", "_orig_mod.")
                if any(n.startswith(p) and n.removeprefix(p) in known for n in self.unexpected)
            ),
            None,
        )
        if prefix:
            help = f"the file's names begin with '{prefix}', the network's do not; save them without it"
        elif self.mismatched:
            help = "were the weights made for another size or number of classes? parameters are set with -p name=value"
        return Diagnostic("E0611", f"the weights of {path} do not fit the network", notes=tuple(notes), help=help)
