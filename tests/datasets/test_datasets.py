"""aaecore.datasets: the embedded sample, the IDX sets, and files that are missing or damaged."""

import dataclasses
import gzip
import hashlib
import os
import runpy
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import make_sample
import numpy as np
import pytest

from aaecore import datasets
from aaecore.errors import DataError

PACKAGE = Path(datasets.__file__).parent
SAMPLE = PACKAGE / datasets.SAMPLE_FILE
SIDES = {"mnist": 2, "fashion-mnist": 3}  # images of the made-up sets, different so that they can be told apart

needs_data = pytest.mark.skipif(
    not os.environ.get("AAECORE_DATA"),
    reason="needs the full sets: set AAECORE_DATA to a folder with mnist/ and fashion-mnist/, each with its IDX files",
)


# The embedded sample


@pytest.fixture(scope="module")
def sample():
    return datasets.load("mnist-sample")


def test_sample_shapes_and_classes(sample):
    assert sample.name == "mnist-sample"
    assert sample.image_shape == (28, 28)
    for split, per_class in ((sample.train, 500), (sample.test, 100)):
        assert split.x.shape == (10 * per_class, 784)
        assert split.x.dtype == np.float32
        assert split.y.dtype == np.int64
        assert np.bincount(split.y).tolist() == [per_class] * 10
        assert (split.x.min(), split.x.max()) == (0, 1)
        assert split.x.flags.c_contiguous


def test_sample_is_shuffled_and_has_no_image_twice(sample):
    for split in (sample.train, sample.test):
        assert (np.diff(split.y) == 0).mean() < 0.15  # 0.1 for ten classes in random order, 1 for sorted ones
        assert len(np.unique(split.x, axis=0)) == len(split.x)


def test_sample_looks_like_mnist(sample):
    assert abs(sample.train.x.mean() - 0.1307) < 0.003  # the mean of all 60000 images
    ink = np.array([sample.train.x[sample.train.y == digit].mean() for digit in range(10)])
    assert (ink.argmin(), ink.argmax()) == (1, 0)  # a one takes the least ink, a zero the most


def test_float_pixels_are_bytes_times_one_255th(sample):
    raw = datasets.load("mnist-sample", dtype="uint8")
    for split, bytes_ in ((sample.train, raw.train), (sample.test, raw.test)):
        assert bytes_.x.dtype == np.uint8
        np.testing.assert_array_equal(split.x, bytes_.x.astype(np.float32) * np.float32(1 / 255), strict=True)
        np.testing.assert_array_equal(split.y, bytes_.y)


def test_loaded_arrays_belong_to_the_caller(sample):
    other = datasets.load("mnist-sample")
    other.train.x[...] = 0
    assert sample.train.x.max() == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        other.train.x = sample.train.x
    with pytest.raises(dataclasses.FrozenInstanceError):
        other.name = "mine"


def test_sample_file_says_what_it_is():
    assert SAMPLE.stat().st_size < 1_050_000
    with h5py.File(SAMPLE) as f:
        attributes = dict(f.attrs)
        assert all(f[name].dtype == np.uint8 for name in datasets.SAMPLE_ARRAYS)
    assert attributes["seed"] == make_sample.SEED
    assert attributes["licence"] == b"CC BY-SA 3.0"
    assert all(author in attributes["source"].decode() for author in ("LeCun", "Cortes", "Burges"))
    notice = (PACKAGE / "NOTICE.md").read_text()
    assert "creativecommons.org/licenses/by-sa/3.0" in notice


def test_sample_loads_from_a_zipped_package(tmp_path):
    """Without a file system path of its own, as importlib.resources promises."""
    with zipfile.ZipFile(tmp_path / "package.zip", "w") as package:
        package.writestr("aaecore/__init__.py", "")
        read = [f"files/{path.name}" for path in (PACKAGE.parent / "files").glob("*.py")]
        sets = [f"datasets/{name}" for name in ("__init__.py", "images.py", "sets.py", "svhn.py", datasets.SAMPLE_FILE)]
        for name in ("errors.py", "arguments.py", *read, *sets):
            package.write(PACKAGE.parent / name, f"aaecore/{name}")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'package.zip')!r}); from aaecore import datasets; "
        "assert 'package.zip' in datasets.__file__; print(datasets.load('mnist-sample').test.x.shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "(1000, 784)\n", done.stderr


def _change_a_pixel(f):
    f["test/x"][7, 300] ^= 1


def _change_a_label(f):
    f["train/y"][0] += 1


def _reverse_labels(f):
    f["train/y"][...] = f["train/y"][...][::-1]


def _delete_digest(f):
    del f.attrs["sha256"]


def _delete_array(f):
    del f["test/y"]


def _lengthen_digest(f):
    f.attrs["sha256"] = f.attrs["sha256"].decode()  # of variable length: HDF5 may look for it without end


DAMAGES = [_change_a_pixel, _change_a_label, _reverse_labels, _delete_digest, _lengthen_digest, _delete_array]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_sample_is_refused(tmp_path, damage):
    copy = tmp_path / "copy.h5"
    shutil.copyfile(SAMPLE, copy)
    assert len(datasets.read_sample(copy)) == 4
    with h5py.File(copy, "r+") as f:
        damage(f)
    with pytest.raises(DataError, match=r"copy\.h5: "):
        datasets.read_sample(copy)


def test_a_sample_of_damaged_bytes_is_refused_or_whole(tmp_path):
    """In time, too: a process of its own, since HDF5 cannot be interrupted where it runs for ever."""
    code = """
import random, sys
from pathlib import Path
import numpy as np
from aaecore import DataError, datasets
whole, copy, rng = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]), random.Random(4)
good = datasets.read_sample(sys.argv[1])
head = min(whole.index(b"\\x78\\xda"), 6000)  # before the first compressed bytes: objects, links, attributes
refused = 0
for start in [*range(0, head, 48), *(rng.randrange(len(whole)) for _ in range(20))]:
    damaged = bytearray(whole)
    damaged[start : start + 8] = bytes(8)
    copy.write_bytes(damaged)
    try:
        assert all(map(np.array_equal, datasets.read_sample(copy), good))
    except DataError:
        refused += 1
print(refused)
"""
    command = [sys.executable, "-c", code, str(SAMPLE), str(tmp_path / "copy.h5")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert int(done.stdout or 0) > 20, done.stderr


def test_damaged_sample_says_what_to_do(tmp_path, monkeypatch):
    shutil.copyfile(SAMPLE, tmp_path / "copy.h5")
    with h5py.File(tmp_path / "copy.h5", "r+") as f:
        f.attrs["sha256"] = np.bytes_("0" * 64)
    with pytest.raises(DataError, match=r"sample is damaged \(sha256 \w{64}, expected 0{64}\); install"):
        datasets.read_sample(tmp_path / "copy.h5")


# Arguments


@pytest.mark.parametrize("name", ["cifar", "MNIST", "", None, 3])
def test_unknown_name(name):
    with pytest.raises(
        ValueError, match="name: expected one of 'mnist-sample', 'mnist', 'fashion-mnist', 'svhn', 'svhn-extra', got "
    ):
        datasets.load(name)


@pytest.mark.parametrize("dtype", ["float64", "garbage", None])
def test_unknown_dtype(dtype):
    with pytest.raises(ValueError, match="dtype: expected 'float32' or 'uint8', got "):
        datasets.load("mnist-sample", dtype=dtype)


# IDX sets, made up


def _header(shape, magic=None):
    return (magic or bytes([0, 0, 8, len(shape)])) + struct.pack(f">{len(shape)}I", *shape)


def _idx(values):
    return _header(values.shape) + values.tobytes()


def _made_up(name):
    """The content of the four files of a set with 40 + 20 images."""
    rng, side = np.random.default_rng(len(name)), SIDES[name]
    arrays = []
    for n in (40, 20):
        arrays += [rng.integers(0, 256, (n, side, side), np.uint8), (np.arange(n) % 10).astype(np.uint8)]
    return dict(zip(datasets.IDX_FILES, map(_idx, arrays), strict=True))


@pytest.fixture(autouse=True)
def made_up_md5(monkeypatch, request):
    """Makes the made-up sets known, except to the tests of the real ones."""
    if "real" in request.node.name:
        return
    monkeypatch.delenv("AAECORE_DATA", raising=False)
    for name in SIDES:
        md5 = tuple(hashlib.md5(content).hexdigest() for content in _made_up(name).values())
        monkeypatch.setitem(datasets.IDX_MD5, name, md5)


def _write(folder, name, packed=()):
    """Write the made-up set; the files whose position is in `packed` as .gz."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, (file, content) in enumerate(_made_up(name).items()):
        (folder / (file + ".gz" * (i in packed))).write_bytes(gzip.compress(content) if i in packed else content)
    return folder


@pytest.mark.parametrize("packed", [(), (0, 1, 2, 3), (1, 2)])
@pytest.mark.parametrize("inner", ["", "mnist"])
@pytest.mark.parametrize("by", ["path", "string", "environment"])
def test_idx_set_is_found(tmp_path, monkeypatch, packed, inner, by):
    _write(tmp_path / inner, "mnist", packed)
    if by == "environment":
        monkeypatch.setenv("AAECORE_DATA", str(tmp_path))
        found = datasets.load("mnist", dtype="uint8")
    else:
        found = datasets.load("mnist", tmp_path if by == "path" else str(tmp_path), dtype="uint8")
    content = list(_made_up("mnist").values())
    assert found.name == "mnist"
    for split, x, y in ((found.train, *content[:2]), (found.test, *content[2:])):
        assert split.x.shape == (len(split.y), 4)
        assert split.x.tobytes() == x[16:]
        assert split.y.tolist() == list(y[8:])
        assert split.y.dtype == np.int64


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("below", ["", "mnist", "MNIST/raw"])
def test_idx_set_is_found_as_others_name_it(tmp_path, below, packed):
    """Programs that unpack archives put a dot for the dash, torchvision has folders of its own."""
    folder = _write(tmp_path / below, "mnist", (0, 1, 2, 3) if packed else ())
    for file in datasets.IDX_FILES:
        (folder / f"{file}{packed}").rename(folder / f"{file.replace('-idx', '.idx')}{packed}")
    assert datasets.load("mnist", tmp_path).train.x.shape == (40, 4)


def test_fashion_mnist_is_not_taken_for_mnist(tmp_path):
    _write(tmp_path / "FashionMNIST/raw", "fashion-mnist")
    assert datasets.load("fashion-mnist", tmp_path).train.x.shape == (40, 9)
    with pytest.raises(DataError, match=r"'mnist' not found: none of .* is in "):
        datasets.load("mnist", tmp_path)


def test_folder_goes_before_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("AAECORE_DATA", str(_write(tmp_path / "a", "mnist")))
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match="not found"):
        datasets.load("mnist", tmp_path / "b")
    assert datasets.load("mnist").train.x.dtype == np.float32


def test_sets_with_equal_file_names_are_told_apart(tmp_path):
    _write(tmp_path, "mnist")
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte: damaged, or a file of another set \(md5"):
        datasets.load("fashion-mnist", tmp_path)
    _write(tmp_path / "fashion-mnist", "fashion-mnist")
    assert datasets.load("fashion-mnist", tmp_path).train.x.shape == (40, 9)
    assert datasets.load("mnist", tmp_path).train.x.shape == (40, 4)


@pytest.mark.parametrize("file", datasets.IDX_FILES)
def test_damaged_idx_set(tmp_path, file):
    path = _write(tmp_path, "mnist") / file
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{file}: damaged, or a file of another set"):
        datasets.load("mnist", tmp_path)
    path.write_bytes(content[:-1])
    with pytest.raises(DataError, match=f"{file}: declares shape"):
        datasets.load("mnist", tmp_path)


def test_missing_set_says_what_was_looked_for_and_where(tmp_path):
    with pytest.raises(DataError) as info:
        datasets.load("mnist", tmp_path)
    for part in (*datasets.IDX_FILES, str(tmp_path), str(tmp_path / "mnist"), ".gz", "folder=", "AAECORE_DATA"):
        assert part in str(info.value)


def test_one_missing_file_is_named(tmp_path):
    (_write(tmp_path / "mnist", "mnist") / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=rf"{tmp_path / 'mnist'} has no t10k-labels-idx1-ubyte \(plain or .gz\)"):
        datasets.load("mnist", tmp_path)


@pytest.mark.parametrize("value", [None, ""])
def test_no_folder_at_all(monkeypatch, value):
    if value is not None:
        monkeypatch.setenv("AAECORE_DATA", value)
    with pytest.raises(
        DataError,
        match=r"is read from the IDX files train-images-idx3-ubyte, .* give folder=... or set .* AAECORE_DATA$",
    ):
        datasets.load("fashion-mnist")


# The script that drew the sample


def test_draw_takes_as_many_of_each_class_in_a_fixed_shuffled_order():
    labels = np.repeat([0, 1, 2], [5, 50, 500])
    rows = make_sample.draw(labels, 4, seed=3)
    assert np.bincount(labels[rows]).tolist() == [4, 4, 4]
    assert len(set(rows.tolist())) == 12
    assert np.any(np.diff(labels[rows]) < 0)
    assert np.array_equal(rows, make_sample.draw(labels, 4, seed=3))
    assert not np.array_equal(rows, make_sample.draw(labels, 4, seed=4))


def test_make_sample_writes_the_same_bytes_again_and_nothing_on_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(make_sample, "TRAIN_PER_CLASS", 3)
    monkeypatch.setattr(make_sample, "TEST_PER_CLASS", 1)
    _write(tmp_path / "in", "mnist", packed=(0, 1, 2, 3))
    for out in ("a.h5", "b.h5"):
        make_sample.make_sample(str(tmp_path / "in"), str(tmp_path / out))
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    train_x, train_y, test_x, test_y = datasets.read_sample(tmp_path / "a.h5")
    assert (train_x.shape, test_x.shape) == ((30, 4), (10, 4))
    full = datasets.load("mnist", tmp_path / "in", dtype="uint8")
    for x, y, split in ((train_x, train_y, full.train), (test_x, test_y, full.test)):
        labels = {row.tobytes(): label for row, label in zip(split.x, split.y, strict=True)}
        assert [labels[row.tobytes()] for row in x] == y.tolist()
    with pytest.raises(DataError):
        make_sample.make_sample(str(tmp_path / "none"), str(tmp_path / "c.h5"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "b.h5", "in"]


def test_make_sample_runs_as_a_module(tmp_path, monkeypatch):
    _write(tmp_path, "mnist")
    monkeypatch.setattr(sys, "argv", ["make_sample", str(tmp_path), str(tmp_path / "out.h5")])
    monkeypatch.delitem(sys.modules, make_sample.__name__)
    runpy.run_module(make_sample.__name__, run_name="__main__")
    assert len(datasets.read_sample(tmp_path / "out.h5")[0]) == 40


# The real sets


@needs_data
@pytest.mark.parametrize(
    ("name", "mean", "first", "counts"),
    [
        ("mnist", 0.13066, [5, 0, 4, 1, 9], [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]),
        ("fashion-mnist", 0.28604, [9, 0, 0, 3, 0], [6000] * 10),
    ],
)
def test_real_set(name, mean, first, counts):
    full = datasets.load(name, dtype="uint8")
    assert full.train.x.shape == (60000, 784)
    assert full.test.x.shape == (10000, 784)
    assert full.train.y[:5].tolist() == first
    assert np.bincount(full.train.y).tolist() == counts
    assert abs(full.train.x.mean() / 255 - mean) < 1e-5


@needs_data
def test_real_mnist_gives_the_embedded_sample(tmp_path):
    make_sample.make_sample(os.environ["AAECORE_DATA"], str(tmp_path / "again.h5"))
    for again, embedded in zip(datasets.read_sample(tmp_path / "again.h5"), datasets.read_sample(SAMPLE), strict=True):
        np.testing.assert_array_equal(again, embedded, strict=True)
