"""Folders as people have them."""

from __future__ import annotations

import gzip
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnc.data.dataset import Dataset
from cnnc.data.inputs import open_input
from cnnc.diagnostics import CnncError
from cnnc.files import escaped
from cnnc.frontend.inputs import Preprocess

SHAPE = (1, 8, 8)


def picture(path: Path | str, grey: int = 0, size: tuple[int, int] = (8, 8)) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        Image.fromarray(np.full(size, grey, np.uint8)).save(f, "PNG")


def photos(root: Path, images: int = 4) -> Path:
    for i, name in enumerate(("cat", "dog")):
        for j in range(images):
            picture(root / name / f"{j}.png", 10 * i + j)
    return root


def opened(path: Path, shape: tuple[int, ...] = SHAPE) -> Dataset:
    return Dataset.open(path, Preprocess(scale=1.0), shape)


def greys(data: Dataset) -> list[int]:
    """What the samples show, of both parts."""
    parts = [x for x, _ in [*data.batches(100, 0, 0), *data.test_batches(100)]]
    return sorted(int(v) for x in parts for v in x[:, 0, 0, 0])


def notes(data: Dataset) -> str:
    return "\n".join(str(w) for w in data.warnings)


def refused(path: Path, shape: tuple[int, ...] = SHAPE) -> tuple[str, str]:
    with pytest.raises(CnncError) as e:
        opened(path, shape)
    assert e.value.exit_code == 3
    return e.value.diagnostics[0].code, str(e.value)


def test_what_systems_leave_is_passed_over_without_a_word(tmp_path: Path) -> None:
    root = photos(tmp_path)
    picture(root / "__MACOSX" / "cat" / "._0.png")
    picture(root / ".hidden" / "0.png")
    picture(root / "cat" / ".thumbnails" / "0.png")
    for name in (".DS_Store", "cat/.DS_Store", "cat/Thumbs.db", "dog/desktop.ini", "cat/._0.png"):
        (root / name).write_bytes(b"?")
    data = opened(root)
    assert data.classes == ("cat", "dog")
    assert greys(data) == [0, 1, 2, 3, 10, 11, 12, 13]
    assert "W0602" not in notes(data)


def test_what_is_passed_over_is_said(tmp_path: Path) -> None:
    root = photos(tmp_path)
    (root / "empty").mkdir()
    (root / "papers" / "old").mkdir(parents=True)
    (root / "papers" / "a.pdf").write_text("?")
    for name in ("cat/a.TIF", "cat/b.tif", "dog/c.gif", "dog/none", "readme.txt"):
        (root / name).write_text("?")
    picture(root / "stray.png")
    (root / "cat" / "gone.png").symlink_to("nowhere.png")
    os.mkfifo(root / "cat" / "pipe.png")
    data = opened(root)
    assert data.classes == ("cat", "dog")
    assert len(greys(data)) == 8
    text = notes(data)
    for said in (
        "11 files and folders of",
        "2 files with the ending .tif, such as cat/a.TIF",
        "1 file with the ending .gif, such as dog/c.gif",
        "1 file with no ending, such as dog/none",
        "1 file with the ending .txt, such as readme.txt",
        "1 file with the ending .pdf, such as papers/a.pdf",
        "folders without images: empty, papers",
        "images in no folder of a class: stray.png",
        "no files: cat/gone.png, cat/pipe.png",
        "help: PNG, JPEG, BMP and WebP images are read",
    ):
        assert said in text


def test_images_further_in_belong_to_their_class(tmp_path: Path) -> None:
    root = photos(tmp_path)
    picture(root / "cat" / "2024" / "may" / "4.png", 4)
    picture(root / "dog" / "more" / "14.PNG", 14)
    with open(root / "dog" / "more" / "15.jfif", "wb") as f:
        Image.fromarray(np.full((8, 8), 15, np.uint8)).save(f, "JPEG")
    data = opened(root)
    assert greys(data) == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14, 15]
    assert np.bincount(data.train.labels).tolist() == [5, 6]
    assert "W0602" not in notes(data)


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    root = photos(tmp_path / "photos")
    (root / "cat" / "again").symlink_to(root)
    (root / "cat" / "self").symlink_to("self")
    picture(tmp_path / "elsewhere" / "5.png", 5)
    (root / "fox").symlink_to(tmp_path / "elsewhere")
    data = opened(root)
    assert data.classes == ("cat", "dog", "fox")
    assert "links that lead back" in notes(data)
    assert "no files: cat/self" in notes(data)


@pytest.mark.parametrize("inner", ["", "photos", "photos/photos"])
@pytest.mark.parametrize(("train", "test"), [("train", "val"), ("Train", "Test"), ("training_set", "test_set")])
def test_parts(tmp_path: Path, inner: str, train: str, test: str) -> None:
    root = tmp_path / inner
    photos(root / train / train)
    photos(root / test, 2)
    (root / train / train / "empty").mkdir()
    picture(root / "__MACOSX" / "x.png")
    data = opened(tmp_path)
    assert (len(data.train), len(data.test)) == (8, 4)
    assert data.classes == ("cat", "dog")
    photos(root / "extra")
    (root / "list.csv").write_text("")
    assert "beside the parts to train and to test on" in notes(opened(tmp_path))
    assert "list.csv" in notes(opened(tmp_path))


def test_a_part_without_labels_is_passed_over(tmp_path: Path) -> None:
    photos(tmp_path / "train")
    picture(tmp_path / "test" / "1.png")
    data = opened(tmp_path)
    assert (len(data.train), len(data.test)) == (7, 1)
    assert "no folder for each class: test" in notes(data)
    photos(tmp_path / "val", 1)
    assert len(opened(tmp_path).test) == 2


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    for folder in (b"caf\xe9", b"th\xe9", "naïve cat".encode()):
        for j in range(3):
            picture(os.fsdecode(os.path.join(root, folder, b"\xff%d.png" % j)), j)
    (tmp_path / os.fsdecode(b"caf\xe9") / os.fsdecode(b"\xfe.txt")).write_text("")
    data = opened(tmp_path)
    assert data.classes == ("caf\\xe9", "naïve cat", "th\\xe9")
    assert "caf\\xe9/\\xfe.txt" in notes(data)
    inputs = open_input(tmp_path, Preprocess(), SHAPE)
    assert [inputs.name(i) for i in (0, 8)] == ["caf\\xe9/\\xff0.png", "th\\xe9/\\xff2.png"]
    assert inputs.take(0, 9).shape == (9, *SHAPE)
    assert escaped("\ud800 \udce9") == "\\ud800 \\xe9"


def test_files_that_are_named_like_images(tmp_path: Path) -> None:
    root = photos(tmp_path)
    (root / "cat" / "5.png").write_text("no image")
    data = opened(root)
    with pytest.raises(CnncError, match=r"5\.png is not an image"):
        greys(data)


# ------------------------------------------------------------------------------------------------ MNIST and CIFAR


def idx(array: np.ndarray[Any, Any]) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


X, Y = np.arange(4 * 64, dtype=np.uint8).reshape(4, 8, 8), np.array([0, 1, 0, 1], np.uint8)
MNIST = {"train-images-idx3": X, "train-labels-idx1": Y, "t10k-images-idx3": X[:2], "t10k-labels-idx1": Y[:2]}
FORMS = {
    "plain": "{0}-ubyte",
    "dotted": "{1}-ubyte",
    "gzipped": "{0}-ubyte.gz",
    "torchvision": "MNIST/raw/{0}-ubyte",
    "torchvision, packed": "MNIST/raw/{0}-ubyte.gz",
    "raw": "raw/{0}-ubyte",
    "folder": "archive/{0}-ubyte",
    "kaggle's folders": "{0}-ubyte/{0}-ubyte",
    "kaggle's dotted folders": "{1}-ubyte/{0}-ubyte",
}


def mnist(root: Path, form: str) -> None:
    for stem, array in MNIST.items():
        path = root / FORMS[form].format(stem, stem.replace("-idx", ".idx"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(idx(array)) if path.suffix == ".gz" else idx(array))


@pytest.mark.parametrize("forms", [*([f] for f in FORMS), ["dotted", "kaggle's folders"], ["plain", "gzipped"]])
def test_mnist(tmp_path: Path, forms: list[str]) -> None:
    for form in forms:
        mnist(tmp_path, form)
    data = opened(tmp_path)
    assert (len(data.train), len(data.test)) == (4, 2)
    assert data.test.labels.tolist() == [0, 1]
    inputs = open_input(tmp_path, Preprocess(scale=1.0), SHAPE)
    np.testing.assert_array_equal(inputs.take(0, 2)[:, 0], X[:2])
    assert inputs.labels is not None
    assert inputs.labels.tolist() == [0, 1]


def test_mnist_in_part(tmp_path: Path) -> None:
    mnist(tmp_path, "plain")
    (tmp_path / "t10k-images-idx3-ubyte").unlink()
    assert refused(tmp_path)[0] == "E0627"
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    assert len(opened(tmp_path).test) == 1
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    assert "no train-labels" in refused(tmp_path)[1]
    code, text = refused(tmp_path / "train-images-idx3-ubyte")
    assert code == "E0627"
    assert "give the folder that it lies in" in text


def test_two_sets_in_one_folder(tmp_path: Path) -> None:
    for name in ("MNIST", "FashionMNIST"):
        mnist(tmp_path / name, "raw")
    code, text = refused(tmp_path)
    assert code == "E0627"
    assert "FashionMNIST/raw" in text
    assert len(opened(tmp_path / "MNIST").train) == 4


@pytest.mark.parametrize("inner", ["", "cifar-10-batches-bin"])
def test_cifar_10(tmp_path: Path, inner: str) -> None:
    folder = tmp_path / inner
    folder.mkdir(exist_ok=True)
    rows = np.zeros((3, 3073), np.uint8)
    rows[:, 0] = 1, 9, 0
    for name in ("data_batch_1.bin", "data_batch_2.bin", "test_batch.bin"):
        (folder / name).write_bytes(rows.tobytes())
    (folder / "batches.meta.txt").write_text("\n".join(f"class{i}" for i in range(10)) + "\n\n")
    data = opened(tmp_path, (3, 32, 32))
    assert (len(data.train), len(data.test)) == (6, 3)
    assert data.classes == tuple(f"class{i}" for i in range(10))


def test_cifar_100(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    rows = np.zeros((2, 3074), np.uint8)
    rows[:, :2] = [[3, 99], [0, 4]]
    for name in ("train.bin", "test.bin"):
        (folder / name).write_bytes(rows.tobytes())
    data = opened(tmp_path, (3, 32, 32))
    assert data.train.labels.tolist() == [99, 4]
    assert data.classes is None


@pytest.mark.parametrize("hundred", [False, True])
@pytest.mark.parametrize("inside", [False, True])
def test_pickles_of_cifar_are_refused_with_the_way_out(tmp_path: Path, hundred: bool, inside: bool) -> None:
    folder = tmp_path / ("cifar-100-python" if hundred else "cifar-10-batches-py")
    folder.mkdir()
    batch = {b"data": X.reshape(-1)[:3].repeat(1024)[None].repeat(2, 0), b"labels": [1, 2], b"fine_labels": [7, 99]}
    for name in ["train", "test", "meta"] if hundred else [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    code, text = refused(folder if inside else tmp_path, (3, 32, 32))
    assert code == "E0612"
    assert "binary version" in text
    line = text[text.index('python -c "') + len('python -c "') : text.rindex('"')]
    subprocess.run([sys.executable, "-c", line], cwd=folder, check=True)
    data = opened(folder / "cifar.npz", (3, 32, 32))
    assert data.test.labels.tolist() == ([7, 99] if hundred else [1, 2])
    assert len(data.train) == (2 if hundred else 10)


@pytest.mark.parametrize("name", ["a.zip", "cifar-10-python.tar.gz", "train.csv", "data.h5"])
def test_files_that_are_no_data_set(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("?")
    code, text = refused(tmp_path / name)
    assert code in ("E0604", "E0627")
    assert "help: " in text
