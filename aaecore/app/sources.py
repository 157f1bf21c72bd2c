"""The data of a run."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np

from .. import data, datasets
from ..errors import DataError
from ..files.arrays import KINDS, flattened, load_array
from . import toml
from .config import RunConfig
from .images import check_image_shape, is_image

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

    def tells(self, option: str) -> int:
        """The value of an option that the data have.

        Raises:
            ValueError: these do not have it.
        """
        if option == "input_dim":
            return self.train.shape[1]
        if option == "classes" and self.train_labels is not None:
            return int(self.train_labels.max()) + 1
        came = "rows without labels" if self.train_labels is None else "rows and labels"
        raise ValueError(f"data: expected data that tell {option}, got {came}")


def load(config: RunConfig) -> Source:
    """The data of a run; of a file a tenth of the rows, drawn with the run's seed, is kept for testing.

    Raises:
        ValueError, TypeError, DataError: there is no such data, or it cannot be used.
    """
    if config.data in datasets.NAMES:
        found = named(config.data, config.data_folder)
        train, test = found.train, found.test
        return Source(train.x, test.x, test.y, found.image_shape, train.y, CLASS_NAMES.get(config.data))
    expected = f"one of {', '.join(datasets.NAMES)}, or {KINDS}"
    rows = read(config.data, config.dataset, name="data", expected=expected)
    shape = config.image_shape
    if shape is None and is_image(rows.shape[1:]):
        shape = rows.shape[1:]
    x = data.as_matrix(flattened(rows), "data")
    if len(x) < 2:
        raise ValueError(f"data: expected at least 2 rows, got {len(x)}")
    if shape is not None:
        check_image_shape(shape, x.shape[1])
    order = data.epoch_order(len(x), config.of_model()["seed"], 0)
    kept = max(1, len(x) // 10)
    return Source(x[np.sort(order[kept:])], x[np.sort(order[:kept])], None, shape)


def read(path: str, dataset: str, *, name: str = "input", expected: str = KINDS) -> np.ndarray:
    """The array in a file; `name` and `expected` are for the message about another kind of file.

    Raises:
        ValueError: another kind of file. DataError: it cannot be read.
    """
    return load_array(toml.to_path(path), dataset, name=name, expected=expected)


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
