"""Folders of images as people have them: a folder for each class, parts to train and to test on, and what lies between.

What is no image is passed over, and said so once, with the reason.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnnc.data.arrays import unreadable
from cnnc.data.images import READ, SUFFIXES
from cnnc.diagnostics import Diagnostic, error
from cnnc.files import escaped

Labels = NDArray[np.int64]
CLASS_LIMIT = 100_000
DEEPEST = 64  # folders within each other
SHOWN = 6  # names that a message lists
# What systems put between the files of people; hidden names are passed over too, and neither is spoken of.
LEFTOVERS = {
    "__macosx",
    "thumbs.db",
    "desktop.ini",
    "@eadir",
    "lost+found",
    "$recycle.bin",
    "system volume information",
}
PICTURES = {".tif", ".tiff", ".gif", ".heic", ".heif", ".avif", ".ppm", ".pgm", ".jp2", ".tga", ".ico", ".dng"}
TRAIN = ("train", "training", "train_set", "training_set", "trainset")
TEST = ("test", "testing", "test_set", "testing_set", "testset", "val", "valid", "validation", "val_set")


@dataclass
class Skipped:
    """What was passed over below a folder, by reason."""

    root: Path
    endings: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, list[str]] = field(default_factory=dict)

    def file(self, path: Path) -> None:
        ending = escaped(path.suffix.lower()) or "no ending"
        self.endings[ending] += 1
        self.examples.setdefault(ending, self.name(path))

    def because(self, reason: str, path: Path) -> None:
        self.reasons.setdefault(reason, []).append(self.name(path))

    def name(self, path: Path) -> str:
        return escaped(path.relative_to(self.root))

    def warnings(self) -> tuple[Diagnostic, ...]:
        """One (W0602), or none."""
        notes = [
            f"{count} {'file' if count == 1 else 'files'} with {ending if ending == 'no ending' else f'the ending {ending}'}, "
            f"such as {self.examples[ending]}"
            for ending, count in self.endings.most_common(SHOWN)
        ]
        more = len(self.endings) - len(notes)
        notes += [f"files with {more} other endings"] if more else []
        for reason, names in self.reasons.items():
            shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
            notes.append(f"{reason}: {shown}")
        if not notes:
            return ()
        count = sum(self.endings.values()) + sum(len(names) for names in self.reasons.values())
        message = (
            f"{count} {'file or folder' if count == 1 else 'files and folders'} of {escaped(self.root)} are passed over"
        )
        help = f"{READ} images are read; convert the others" if PICTURES & set(self.endings) else None
        return (Diagnostic("W0602", message, notes=tuple(notes), help=help, severity="warning"),)


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder by name, but for hidden names and what systems leave there."""
    try:
        with os.scandir(folder) as entries:
            found = [e for e in entries if not e.name.startswith(".") and e.name.lower() not in LEFTOVERS]
    except (OSError, ValueError) as e:
        raise unreadable(folder, e if isinstance(e, OSError) else OSError(str(e))) from e
    return sorted(found, key=lambda e: e.name)


def _kind(entry: os.DirEntry[str]) -> str:
    """`folder`, `image`, `file`, or `other`: a pipe, a device, a link that leads nowhere."""
    try:
        if entry.is_dir():
            return "folder"
        if not entry.is_file():
            return "other"
    except OSError:  # a link to itself
        return "other"
    return "image" if os.path.splitext(entry.name)[1].lower() in SUFFIXES else "file"


def folders(path: Path) -> list[Path]:
    """The visible folders right in a folder, by name."""
    return [Path(e.path) for e in _listed(path) if _kind(e) == "folder"]


def has_images(path: Path) -> bool:
    """Whether images lie right in a folder."""
    return any(_kind(e) == "image" for e in _listed(path))


def walk(path: Path, skipped: Skipped) -> list[Path]:
    """The images in a folder and in those below it, by name. A link is followed, but not into a folder that it lies in."""
    return list(_walk(path, skipped, ()))


def _walk(path: Path, skipped: Skipped, above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    try:
        status = path.stat()
    except OSError as e:
        raise unreadable(path, e) from e
    here = (status.st_dev, status.st_ino)
    if here in above:
        return skipped.because("links that lead back", path)
    if len(above) >= DEEPEST:
        return skipped.because(f"more than {DEEPEST} folders deep", path)
    for entry in _listed(path):
        kind = _kind(entry)
        if kind == "folder":
            yield from _walk(Path(entry.path), skipped, (*above, here))
        elif kind == "image":
            yield Path(entry.path)
        elif kind == "file":
            skipped.file(Path(entry.path))
        else:
            skipped.because("no files", Path(entry.path))


def unwrapped(path: Path) -> Path:
    """The folder that holds more than one other folder, as archives are unpacked: photos/photos/cat."""
    for _ in range(DEEPEST):
        inner = folders(path)
        if len(inner) != 1 or has_images(path) or has_images(inner[0]) or not folders(inner[0]):
            break
        path = inner[0]
    return path


def parts(path: Path, skipped: Skipped) -> tuple[Path, Path | None]:
    """The folder to train on, and that to test on where there is one: train/ and test/, or validation/, beside it."""
    path = unwrapped(path)
    found = {p.name.casefold(): p for p in folders(path)}
    train = next((found[n] for n in TRAIN if n in found), None)
    if train is None:
        return path, None
    tests = [found[n] for n in TEST if n in found]
    usable = [p for p in tests if any(walk(f, Skipped(path)) for f in folders(unwrapped(p)))]
    test = usable[0] if usable else None
    unusable = [p for p in tests if p not in usable]
    for p in unusable:
        skipped.because("no folder for each class", p)
    _skip_files(path, skipped)
    for p in found.values():
        if p not in (train, test, *unusable):
            skipped.because("beside the parts to train and to test on", p)
    return unwrapped(train), None if test is None else unwrapped(test)


def _skip_files(path: Path, skipped: Skipped) -> None:
    for entry in _listed(path):
        if _kind(entry) != "folder":
            skipped.file(Path(entry.path))


def _with_images(path: Path, skipped: Skipped) -> list[tuple[str, list[Path]]]:
    """The folders that hold images, by name, and their images."""
    found = []
    for entry in _listed(path):
        kind, at = _kind(entry), Path(entry.path)
        if kind == "folder":
            images = walk(at, skipped)
            if images:
                found.append((entry.name, images))
            else:
                skipped.because("folders without images", at)
        elif kind == "image":
            skipped.because("images in no folder of a class", at)
        else:
            skipped.file(at)
    return found


def class_folders(
    path: Path, skipped: Skipped, known: Sequence[str] | None = None
) -> tuple[tuple[str, ...], list[Path], Labels]:
    """The names of the folders that hold images (sorted; whole numbers by value), all of their images, and their labels.

    known: the names that there may be, in order. Raises `CnncError` (E0620, E0627, E0630).
    """
    found = _with_images(path, skipped)
    if len(found) > CLASS_LIMIT:
        raise error(
            "E0627", f"{escaped(path)} has {len(found)} folders; {CLASS_LIMIT} classes are the limit", exit_code=3
        )
    if not found:
        raise error(
            "E0630",
            f"{escaped(path)} has no folders with images",
            "a data set has a folder of images for each class",
            *(note for warning in skipped.warnings() for note in warning.notes),
            exit_code=3,
            help=f"{READ} images are read",
        )
    if all(name.isdecimal() for name, _ in found):
        found.sort(key=lambda item: int(item[0]))
    names = tuple(known if known is not None else (name for name, _ in found))
    index = {name: i for i, name in enumerate(names)}
    for name, _ in found:
        if name not in index:
            raise error(
                "E0627",
                f"{escaped(path / name)} is a class that the training part does not have",
                f"it has {', '.join(map(escaped, names[:SHOWN]))}{', ...' if len(names) > SHOWN else ''}",
                exit_code=3,
            )
    labels = [index[name] for name, images in found for _ in images]
    return names, [image for _, images in found for image in images], np.asarray(labels, np.int64)
