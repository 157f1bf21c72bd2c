"""Images of one's own in a .npz file."""

import os

import numpy as np
import pytest

from aaecore import datasets
from aaecore.app import config, sources
from aaecore.datasets import images
from aaecore.errors import DataError
from aaecore.models import AAE

RNG = np.random.default_rng(0)
X, X_TEST = RNG.integers(0, 256, (20, 4, 5), np.uint8), RNG.integers(0, 256, (6, 4, 5), np.uint8)
Y, Y_TEST = np.arange(20) % 3, np.arange(6) % 3
RunConfig = config.of(AAE)


def real(*path):
    file = os.path.join(os.environ.get("AAECORE_DATA", ""), *path)
    return pytest.mark.skipif(not os.path.isfile(file), reason=f"needs {'/'.join(path)} in the folder AAECORE_DATA")


@pytest.mark.parametrize("names", [("x", "y"), ("X", "y"), ("images", "labels")])
@pytest.mark.parametrize("words", [False, True])
def test_two_parts(tmp_path, names, words):
    y, y_test = (np.array(["a", "b", ""])[labels] if words else labels for labels in (Y, Y_TEST))
    arrays = dict(zip([f"{n}{end}" for end in ("_train", "_test") for n in names], (X, y, X_TEST, y_test), strict=True))
    np.savez_compressed(tmp_path / "faces.npz", **arrays, something=np.array([None]))
    found = datasets.load_images(tmp_path / "faces.npz", dtype="uint8")
    assert (found.name, found.image_shape) == ("faces", (4, 5))
    for part, x, labels in ((found.train, X, y), (found.test, X_TEST, y_test)):
        assert np.array_equal(part.x.reshape(x.shape), x)
        np.testing.assert_array_equal(part.y, labels, strict=True)
    floats = datasets.load_images(tmp_path / "faces.npz").train.x
    assert np.array_equal(floats, found.train.x.astype(np.float32) * np.float32(1 / 255))


def test_one_part_and_which_images_are_for_testing(tmp_path):
    held_out = np.arange(20) % 4 == 1
    np.savez(tmp_path / "a.npz", x=np.stack([X] * 3, axis=-1), y=Y[:, None].astype(np.uint8), test=held_out)
    found = datasets.load_images(tmp_path / "a.npz", dtype="uint8")
    assert found.image_shape == (4, 5, 3)
    assert np.array_equal(found.train.y, Y[~held_out])
    assert np.array_equal(found.test.x.reshape(5, 4, 5, 3)[..., 1], X[held_out])
    np.savez(tmp_path / "a.npz", images=X)
    found = datasets.load_images(tmp_path / "a.npz", dtype="uint8")
    assert (found.train.x.shape, found.test.x.shape, found.test.y.shape) == ((20, 20), (0, 20), (0,))
    assert set(found.train.y.tolist()) == {-1}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"z": X}, "expected images in an array x or x_train, X or X_train, images or images_train, got z"),
        ({"x_train": X}, "expected an array 'x_test', got x_train"),
        ({"x_train": X, "x_test": X_TEST, "y_train": Y}, "expected an array 'y_test'"),
        ({"x": X / 255}, r"'x': expected images of uint8, .*, got float64 of shape \(20, 4, 5\)"),
        ({"x": X.reshape(20, 20)}, r"'x': expected images of uint8, .*, got uint8 of shape \(20, 20\)"),
        ({"x": X[:, :, :, None, None]}, "'x': expected images of uint8"),
        ({"x": X[:0]}, "'x': expected images of uint8"),
        (
            {"x": X, "y": Y[1:]},
            r"'y': expected integers or strings of shape \(20,\), one for .*, got int64 of .*\(19,\)",
        ),
        ({"x": X, "y": Y / 2}, "'y': expected integers or strings .*, got float64"),
        ({"x": X, "test": Y[1:]}, r"'test': expected shape \(20,\), one value for each image, got \(19,\)"),
        ({"x_train": X, "x_test": X_TEST[:, 1:]}, r"expected images of one shape, got \(4, 5\) and \(3, 5\)"),
        (
            {"x_train": X, "x_test": X_TEST, "y_train": Y, "y_test": np.array(["a"] * 6)},
            "expected labels of one kind, got integers and strings",
        ),
        (
            {"x": X, "y": np.full(20, 2**64 - 1, np.uint64)},
            "'y': expected integers within int64, got 18446744073709551615",
        ),
        ({"x": X, "x_train": X, "x_test": X_TEST}, "expected either x or x_train and x_test, got x, x_train, x_test"),
        ({"x_test": X_TEST, "x": X}, "expected either x or x_train and x_test, got x_test, x"),
        ({"x": X, "images": X}, "expected either x or images, got x, images"),
        ({"x": X, "y": Y, "labels": Y}, "expected either y or labels, got x, y, labels"),
        ({"x_test": X_TEST}, "expected an array 'x_train', got x_test"),
    ],
)
def test_arrays_that_are_no_such_images(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=rf"a\.npz: {message}"):
        datasets.load_images(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=r"^dtype: expected 'float32' or 'uint8', got 'int8'"):
        datasets.load_images(tmp_path / "a.npz", dtype="int8")


def test_rows_in_the_order_of_the_file(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=X, test=np.arange(20) % 2)
    assert np.array_equal(images.load_rows(path), X.reshape(20, 20))
    np.savez(path, x_test=X_TEST, x_train=X)
    assert np.array_equal(images.load_rows(path), np.concatenate([X, X_TEST]).reshape(26, 20))
    np.savez(path, x_test=X_TEST, x_train=X[:, 1:])
    with pytest.raises(DataError, match=r"a\.npz: expected images of one shape, got \(3, 5\) and \(4, 5\)"):
        images.load_rows(path)


def test_runs_of_them(tmp_path):
    path = str(tmp_path / "a.npz")
    np.savez(path, x_train=X, x_test=X_TEST, y_train=Y, y_test=Y_TEST)
    source = sources.load(RunConfig(data=path))
    assert (source.train.shape, source.test.shape, source.image_shape) == ((20, 20), (6, 20), (4, 5))
    assert np.array_equal(source.train_labels, Y)
    assert np.array_equal(source.test_labels, Y_TEST)
    with pytest.raises(ValueError, match=r"^labels: expected none, since a .npz file has them in an array y, got 'y'"):
        sources.load(RunConfig(data=path, labels="y"))
    np.savez(path, images=X)
    source = sources.load(RunConfig(data=path))
    assert (source.train.shape, source.test.shape) == ((18, 20), (2, 20))
    assert (source.train_labels, source.test_labels) == (None, None)
    np.savez(path, images=X, labels=Y)
    source = sources.load(RunConfig(data=path))
    label = {x.tobytes(): y for x, y in zip(X, Y, strict=True)}
    assert [label[x.tobytes()] for x in source.test] == source.test_labels.tolist()


@real("faces", "faces48.npz")
def test_real_faces():
    found = datasets.load_images(os.path.join(os.environ["AAECORE_DATA"], "faces", "faces48.npz"), dtype="uint8")
    assert (found.train.x.shape, found.test.x.shape, found.image_shape) == ((26804, 2304), (7066, 2304), (48, 48))


@real("svhn-subset", "svhn_subset_32x32.npz")
def test_real_house_numbers():
    path = os.path.join(os.environ["AAECORE_DATA"], "svhn-subset", "svhn_subset_32x32.npz")
    found = datasets.load_images(path, dtype="uint8")
    assert (found.train.x.shape, found.test.x.shape, found.image_shape) == ((554, 3072), (486, 3072), (32, 32, 3))
    assert set(found.train.y.tolist()) == set(range(10))
