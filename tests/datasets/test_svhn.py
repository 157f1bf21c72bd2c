"""Street View House Numbers: made-up files of its form, what is refused, and the real ones where they are."""

import hashlib
import os
import sys

import numpy as np
import pytest

from aaecore import datasets
from aaecore.app import config, sources
from aaecore.datasets import svhn
from aaecore.errors import DataError
from aaecore.models import AAE

SIZES = {svhn.TRAIN: 12, svhn.EXTRA: 30, svhn.TEST: 7}

needs_files = pytest.mark.skipif(
    not os.path.isfile(os.path.join(os.environ.get("AAECORE_DATA", ""), "svhn", svhn.TRAIN)),
    reason="needs the full set: train_32x32.mat and test_32x32.mat in svhn/ of the folder AAECORE_DATA",
)


def pictures(file):
    """Images (N, 32, 32, 3) and digits (N,) of a made-up file."""
    rng = np.random.default_rng(SIZES[file])
    return rng.integers(0, 256, (SIZES[file], 32, 32, 3), np.uint8), np.arange(SIZES[file]) % 10


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The three files in a folder, as known ones."""
    io = pytest.importorskip("scipy.io", reason="SVHN is read by SciPy: pip install scipy")
    monkeypatch.delenv("AAECORE_DATA", raising=False)
    for file in SIZES:
        x, y = pictures(file)
        stored = {"X": x.transpose(1, 2, 3, 0), "y": np.where(y == 0, 10, y).astype(np.uint8)[:, None]}
        io.savemat(tmp_path / file, stored, do_compression=True)
        monkeypatch.setitem(svhn.MD5, file, hashlib.md5((tmp_path / file).read_bytes()).hexdigest())
    return tmp_path


@pytest.mark.parametrize("below", ["", "svhn", "SVHN"])
def test_images_and_digits(folder, below, monkeypatch):
    if below:
        (folder / below).mkdir()
        for file in SIZES:
            (folder / file).rename(folder / below / file)
    found = datasets.load("svhn", folder, dtype="uint8")
    assert (found.name, found.image_shape) == ("svhn", (32, 32, 3))
    for part, file in ((found.train, svhn.TRAIN), (found.test, svhn.TEST)):
        x, y = pictures(file)
        assert np.array_equal(part.x.reshape(x.shape), x)
        assert np.array_equal(part.y, y)
        assert (part.x.dtype, part.y.dtype) == (np.uint8, np.int64)
        assert part.x.flags.c_contiguous
    monkeypatch.setenv("AAECORE_DATA", str(folder))
    floats = datasets.load("svhn").train.x
    assert np.array_equal(floats, found.train.x.astype(np.float32) * np.float32(1 / 255))


def test_the_extra_images_are_to_train_on(folder):
    few, many = (datasets.load(name, folder, dtype="uint8") for name in ("svhn", "svhn-extra"))
    assert len(many.train.x) == len(many.train.y) == 42
    assert np.array_equal(many.train.x[:12], few.train.x)
    assert np.array_equal(many.train.y[12:], pictures(svhn.EXTRA)[1])
    assert np.array_equal(many.test.x, few.test.x)


def test_a_run_of_them(folder):
    found = sources.load(config.of(AAE)(data="svhn", data_folder=str(folder)))
    assert (found.train.shape, found.image_shape, found.tells("classes")) == ((12, 3072), (32, 32, 3), 10)


def test_files_that_are_missing(folder, monkeypatch):
    (folder / svhn.EXTRA).unlink()
    with pytest.raises(DataError, match=r"'svhn-extra' not found: .* has no extra_32x32.mat; give folder=... or set"):
        datasets.load("svhn-extra", folder)
    with pytest.raises(DataError, match=r"'svhn' not found: none of train_32x32.mat, test_32x32.mat is in .*none, "):
        datasets.load("svhn", folder / "none")
    with pytest.raises(DataError, match=r"'svhn' is read from the files train_32x32.mat, test_32x32.mat: give folder="):
        datasets.load("svhn")
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(ImportError, match=r"train_32x32.mat: a .mat file needs SciPy, pip install scipy"):
        datasets.load("svhn", folder)


def test_files_that_are_damaged_or_others(folder, monkeypatch):
    whole = (folder / svhn.TEST).read_bytes()
    (folder / svhn.TEST).write_bytes(whole[:-1])
    with pytest.raises(DataError, match=r"test_32x32.mat: damaged, or another file \(md5 "):
        datasets.load("svhn", folder)
    monkeypatch.setitem(svhn.MD5, svhn.TEST, hashlib.md5(whole[:-1]).hexdigest())
    with pytest.raises(DataError, match=r"test_32x32.mat: not a readable MATLAB file"):
        datasets.load("svhn", folder)
    from scipy.io import savemat

    savemat(folder / svhn.TEST, {"X": np.zeros((28, 28, 3, 4), np.uint8), "y": np.zeros((4, 1))})
    monkeypatch.setitem(svhn.MD5, svhn.TEST, hashlib.md5((folder / svhn.TEST).read_bytes()).hexdigest())
    with pytest.raises(DataError, match=r"expected X of shape \(32, 32, 3, 4\) and uint8, got \(28, 28, 3, 4\)"):
        datasets.load("svhn", folder)


@needs_files
def test_the_real_files():
    found = datasets.load("svhn", dtype="uint8")
    assert (found.train.x.shape, found.test.x.shape) == ((73257, 3072), (26032, 3072))
    assert np.bincount(found.train.y)[:2].tolist() == [4948, 13861]
