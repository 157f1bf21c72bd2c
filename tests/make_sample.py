"""Draws the embedded sample from the full MNIST: python tests/make_sample.py FOLDER OUT."""

import argparse
import io

import numpy as np

from aaecore.datasets import SAMPLE_ARRAYS, load, sample_digest
from aaecore.files import atomic

SEED = 20151118  # the date of arXiv:1511.05644v1
TRAIN_PER_CLASS = 500
TEST_PER_CLASS = 100
SOURCE = "MNIST, Y. LeCun, C. Cortes, C. J. C. Burges, http://yann.lecun.com/exdb/mnist/; derived from NIST SD-1, SD-3"
LICENCE = "CC BY-SA 3.0"


def draw(labels: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """Shuffled row numbers with `per_class` rows of each class: the first of it in a permutation fixed by the seed."""
    order = np.random.Generator(np.random.Philox(key=np.array([seed, 0], np.uint64))).permutation(len(labels))
    shuffled = labels[order]
    first = [np.flatnonzero(shuffled == label)[:per_class] for label in np.unique(labels)]
    rows: np.ndarray = order[np.sort(np.concatenate(first))]
    return rows


def make_sample(folder: str, out: str) -> None:
    """Write the sample drawn from the IDX files in `folder` to the HDF5 file `out`, whole or not at all."""
    import h5py

    full = load("mnist", folder, dtype="uint8")
    arrays = {}
    for name, split, per_class in (("train", full.train, TRAIN_PER_CLASS), ("test", full.test, TEST_PER_CLASS)):
        rows = draw(split.y, per_class, SEED)
        arrays[f"{name}/x"], arrays[f"{name}/y"] = split.x[rows], split.y[rows].astype(np.uint8)
    image = io.BytesIO()
    # A fixed format version, no times and one chunk per array: the same bytes for the same HDF5 and zlib.
    with h5py.File(image, "w", libver=("earliest", "v108")) as f:
        for name in SAMPLE_ARRAYS:
            values = arrays[name]
            f.create_dataset(
                name, data=values, chunks=values.shape, compression="gzip", compression_opts=9, track_times=False
            )
        # Of fixed length: what has a variable one lies in a heap, in which HDF5 may run for ever when it is damaged.
        texts = {"source": SOURCE, "licence": LICENCE, "sha256": sample_digest(arrays)}
        f.attrs.update({name: np.bytes_(text) for name, text in texts.items()}, seed=SEED)
    atomic.write(out, image.getvalue())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="folder with the four IDX files of MNIST, plain or .gz")
    parser.add_argument("out", help="HDF5 file to write")
    make_sample(**vars(parser.parse_args()))
