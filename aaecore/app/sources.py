"""The data of a run."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np

from .. import data, datasets
from ..data.labels import Labels, as_own, distinct, is_labelled
from ..datasets.images import load_rows
from ..errors import DataError
from ..evaluation import label_split
from ..files import labels
from ..files.arrays import KINDS, flattened, load_array
from ..files.csv import load_csv_without
from . import toml
from .config import RunConfig, is_hdf5, is_npz
from .images import check_image_shape, is_image

HOW = "give --labels for those of a file, or an array y in a .npz"
# What the labels of named sets stand for, where that is not the numbers themselves.
CLASS_NAMES = {
    "fashion-mnist": (
        "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
    ),
}  # fmt: skip


class Source(NamedTuple):
    """What a run trains on: rows (N, features), their labels and the shape of an image where known."""

    train: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray | None
    image_shape: tuple[int, ...] | None
    train_labels: np.ndarray | None = None
    class_names: tuple[str, ...] | None = None  # of the labels 0, 1, ... where they stand for something
    validation: np.ndarray | None = None  # rows that are neither trained on nor tested
    validation_labels: np.ndarray | None = None

    def tells(self, option: str) -> Any:
        """The value of an option that the data have; None where it may be unknown.

        What the classes are called is told to a model that learns from labels only, see `runs.new_trainer`.

        Raises:
            ValueError: these do not have it.
        """
        if option == "input_dim":
            return self.train.shape[1]
        if option == "image_shape":
            return self.image_shape and self.image_shape[:2]  # without the colours of a pixel
        if option == "labels":
            return None
        if option == "classes" and self.labels:
            return len(self.labels)
        came = "rows and labels" if self.labels else f"rows without labels; {HOW}"
        raise ValueError(f"data: expected data that tell {option}, got {came}")

    @property
    def labels(self) -> Labels:
        """The different ones of all rows: those that only held-out data have get a class as well."""
        parts = [y for y in (self.train_labels, self.test_labels, self.validation_labels) if y is not None]
        return distinct(np.concatenate(parts)) if parts else ()

    @property
    def held_out(self) -> tuple[str, np.ndarray, np.ndarray | None]:
        """What a run is watched by and stopped early, with labels: rows kept for choices, else those for testing."""
        if self.validation is not None:
            return "validation", self.validation, self.validation_labels
        return "test", self.test, self.test_labels


def load(config: RunConfig) -> Source:
    """The data of a run; of a file a tenth of the rows, drawn with the run's seed, is kept for testing.

    As many training rows are kept out of training as the run says: the last ones of a complete named set, as is the
    custom with MNIST, else drawn with its seed. Of the labels to train on as many are kept as it says, drawn too.

    Raises:
        ValueError, TypeError, DataError: there is no such data, or it cannot be used.
    """
    if config.data in datasets.NAMES:
        found = named(config.data, config.data_folder)
        train, test = found.train, found.test
        source = Source(train.x, test.x, test.y, found.image_shape, train.y, CLASS_NAMES.get(config.data))
    else:
        source = _of_file(config)
    source = _without_validation(source, config)
    if config.labelled_rows is None:
        return source
    if source.train_labels is None:
        raise ValueError(f"labelled_rows: expected data with labels, got none; {HOW}")
    try:
        kept = label_split(source.train_labels, config.labelled_rows, config.of_model()["seed"])
    except ValueError as error:
        raise ValueError(f"labelled_rows: {str(error).removeprefix('count: ')}") from None
    return source._replace(train_labels=kept)


def _without_validation(source: Source, config: RunConfig) -> Source:
    """The data with some training rows set apart."""
    apart, n = config.validation_rows, len(source.train)
    if apart is None:
        return source
    if apart >= n:
        raise ValueError(f"validation_rows: expected an integer < {n}, the rows to train on, got {apart}")
    is_complete = config.data in datasets.NAMES and config.data != datasets.SAMPLE
    order = np.arange(n) if is_complete else data.epoch_order(n, config.of_model()["seed"], 1)
    kept, held_out = np.sort(order[:-apart]), np.sort(order[-apart:])
    y = source.train_labels
    labels, apart_labels = (None, None) if y is None else (y[kept], y[held_out])
    return source._replace(
        train=source.train[kept], train_labels=labels, validation=source.train[held_out], validation_labels=apart_labels
    )


def _of_file(config: RunConfig) -> Source:
    if is_npz(config.data):
        return _of_images(config)
    rows, y = _read_labelled(config)
    shape = config.image_shape
    if shape is None and is_image(rows.shape[1:]):
        shape = rows.shape[1:]
    x = data.as_matrix(flattened(rows), "data")
    if len(x) < 2:
        raise ValueError(f"data: expected at least 2 rows, got {len(x)}")
    if shape is not None:
        check_image_shape(shape, x.shape[1])
    return _divided(x, None if y is None else as_own(y, "labels", len(x)), shape, config.of_model()["seed"])


def _of_images(config: RunConfig) -> Source:
    """The images of an archive, which says itself which of them are for testing and where their labels are."""
    if config.labels is not None:
        raise ValueError(f"labels: expected none, since a .npz file has them in an array y, got {config.labels!r}")
    found = datasets.load_images(toml.to_path(config.data), dtype="uint8")
    train, test = found.train, found.test
    have_labels = is_labelled(train.y).any() or is_labelled(test.y).any()
    if not len(test.x):
        return _divided(train.x, train.y if have_labels else None, found.image_shape, config.of_model()["seed"])
    labels = (train.y, test.y) if have_labels else (None, None)
    return Source(train.x, test.x, labels[1], found.image_shape, labels[0])


def _divided(x: np.ndarray, y: np.ndarray | None, shape: tuple[int, ...] | None, seed: int) -> Source:
    """A tenth of the rows, drawn by the seed, is for testing."""
    order = data.epoch_order(len(x), seed, 0)
    train, test = (np.sort(part) for part in np.split(order, [max(1, len(x) // 10)])[::-1])
    return Source(x[train], x[test], None if y is None else y[test], shape, None if y is None else y[train])


def _read_labelled(config: RunConfig) -> tuple[np.ndarray, np.ndarray | None]:
    """The rows of a file and their labels, if the run says where they are."""
    expected = f"one of {', '.join(datasets.NAMES)}, a file .npz of images, or {KINDS}"
    alone = config.labels is not None and labels.is_alone(config.labels)
    if config.labels is None or alone:
        rows = read(config.data, config.dataset, name="data", expected=expected)
        return rows, labels.load_alone(toml.to_path(config.labels)) if config.labels is not None else None
    if not labels.has_parts(config.data):
        came = f"{config.labels!r} beside {config.data}"
        raise ValueError(f"labels: expected {labels.KINDS}, or the name of a part of a .h5 or .csv file, got {came}")
    return labels.load_with_labels(toml.to_path(config.data), config.dataset, config.labels)


def read(path: str, dataset: str, *, name: str = "input", expected: str = KINDS) -> np.ndarray:
    """The array in a file; `name` and `expected` are for the message about another kind of file.

    Raises:
        ValueError: another kind of file. DataError: it cannot be read.
    """
    return load_array(toml.to_path(path), dataset, name=name, expected=expected)


def rows(path: str, dataset: str | None, column: str | None = None) -> np.ndarray:
    """The rows of a file that a command reads.

    `dataset` is the name of those in a .h5 file, x by default; `column` is left out of a table that has it.

    Raises:
        ValueError: another kind of file, or a name where there is none. DataError: it cannot be read.
    """
    if dataset is not None and not is_hdf5(path):
        raise ValueError(f"--dataset: expected a .h5 file as input, got {path}")
    if is_npz(path):
        return load_rows(toml.to_path(path))
    if column is not None and labels.is_table(path):
        return load_csv_without(toml.to_path(path), column)
    return flattened(read(path, dataset or "x", expected=f"a file .npz of images, or {KINDS}"))


def named(name: str, folder: str | None = None) -> datasets.Dataset:
    """The data of a name, as bytes; from `folder`, or where AAECORE_DATA says if there is no such folder.

    Raises:
        ValueError, DataError: there are none.
    """
    place = None if folder is None else toml.to_path(folder)
    if place is not None and not os.path.isdir(place) and os.environ.get(datasets.DATA_VARIABLE):
        place = None  # a run that came from another machine
    try:
        return datasets.load(name, folder=place, dtype="uint8")
    except DataError as error:
        raise DataError(str(error).replace("folder=...", "--data-folder")) from None
    except ValueError as error:
        raise ValueError(f"data{str(error).removeprefix('name')}") from None
