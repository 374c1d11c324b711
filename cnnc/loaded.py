"""What a file of weights had and had not, and how that is said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from cnnc.diagnostics import Diagnostic

Shape = tuple[int, ...]
SHOWN = 8  # names that a message lists
LOOKED_AT = 500  # names for which one like them is looked for


@dataclass(frozen=True)
class Loaded:
    """What a file of weights had and had not: `mismatched` by name, (shape in the network, shape in the file); `shapes` of
    what is missing, in the network, and of what is unexpected, in the file.
    """

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: Mapping[str, tuple[Shape, Shape]] = field(default_factory=dict)
    shapes: Mapping[str, Shape] = field(default_factory=dict)

    @staticmethod
    def of(shapes: Mapping[str, Shape], present: Mapping[str, Shape]) -> Loaded:
        """From the shapes of the network, and those in the file."""
        missing = tuple(n for n in shapes if n not in present)
        unexpected = tuple(sorted(n for n in present if n not in shapes))
        mismatched = {n: (s, present[n]) for n, s in shapes.items() if n in present and present[n] != s}
        apart = {n: shapes[n] for n in missing} | {n: present[n] for n in unexpected}
        return Loaded(missing, unexpected, mismatched, apart)

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.mismatched)

    def diagnostic(self, path: Path, total: int) -> Diagnostic:
        """E0611, with the names and shapes, and those of the file that are nearest to what is missing."""
        pair = self._prefixes()
        near = self._near() if pair is None else {}
        notes, help = [], None
        if self.missing:
            shown = [f"{n} {list(self.shapes[n])}" + (f" ({near[n]}?)" if n in near else "") for n in self.missing]
            notes.append(f"missing in the file, {len(self.missing)} of {total}: {_listed(shown)}")
        if self.unexpected:
            shown = [f"{n} {list(self.shapes[n])}" for n in self.unexpected]
            notes.append(f"unexpected, {len(self.unexpected)}: {_listed(shown)}")
        if self.mismatched:
            shown = [
                f"{n} is {list(a)} in the network and {list(b)} in the file" for n, (a, b) in self.mismatched.items()
            ]
            notes.append(f"mismatched, {len(shown)}: {_listed(shown)}")
        if pair is not None:
            begin = f"the file's names begin with '{pair[0]}'" if pair[0] else "the file's names begin elsewhere"
            ours = f"the network's with '{pair[1]}'" if pair[1] else "the network's do not"
            help = (
                f"{begin}, {ours}: --map '{pair[0]}={pair[1]}', or load_weights(..., map={{'{pair[0]}': '{pair[1]}'}})"
            )
        elif self.mismatched:
            help = "were the weights made for another size or number of classes? parameters are set with -p name=value"
        return Diagnostic("E0611", f"the weights of {path} do not fit the network", notes=tuple(notes), help=help)

    def _near(self) -> dict[str, str]:
        """For what is missing and shown: the unexpected name of its shape that is most like it."""
        found = {}
        for name in self.missing[:SHOWN]:
            same = [n for n in self.unexpected[:LOOKED_AT] if self.shapes[n] == self.shapes[name]]
            close = get_close_matches(name, same, 1, 0.5)
            if close:
                found[name] = close[0]
        return found

    def _prefixes(self) -> tuple[str, str] | None:
        """How names begin in the file and in the network, where that is all that parts half of the missing ones."""
        ends: dict[str, list[str]] = {}
        for name in self.missing if self.unexpected else ():
            for begin, end in _cuts(name):
                ends.setdefault(end, []).append(begin)
        votes: Counter[tuple[str, str]] = Counter()
        for name in self.unexpected[:LOOKED_AT]:
            cut = next(((b, e) for b, e in _cuts(name) if e in ends), None)  # the longest end that both have
            if cut is not None:
                begins = ends[cut[1]][:SHOWN]
                votes.update((cut[0], b) for b in begins if self.shapes[b + cut[1]] == self.shapes[name])
        for (theirs, ours), _ in votes.most_common(SHOWN):
            mapped = {ours + n.removeprefix(theirs): self.shapes[n] for n in self.unexpected if n.startswith(theirs)}
            if theirs != ours and 2 * sum(mapped.get(n) == self.shapes[n] for n in self.missing) >= len(self.missing):
                return theirs, ours
        return None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _cuts(name: str) -> Iterator[tuple[str, str]]:
    """A name in two, at its beginning and behind each of its dots; the longest end first."""
    parts = name.split(".")[:16]
    for at in range(len(parts)):
        begin = "".join(f"{p}." for p in parts[:at])
        yield begin, name.removeprefix(begin)
