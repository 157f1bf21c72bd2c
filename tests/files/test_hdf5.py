"""HDF5 files of others: sparse ones, and such that are made to take long."""

import time

import h5py
import pytest

from aaecore.data import load_hdf5
from aaecore.errors import DataError


@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}, {"fillvalue": 0.5}])
def test_chunks_that_were_never_written_have_the_fill_value(tmp_path, options):
    """A table made large enough, of which rows are written as they come, is a whole file."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        rows = file.create_dataset("x", (20000, 100), "f4", chunks=(10, 100), **options)
        rows[:20] = 1.0
    x = load_hdf5(tmp_path / "a.h5")
    assert (x[:20] == 1).all()
    assert (x[20:] == options.get("fillvalue", 0)).all()


def test_what_stores_little_of_much_is_taken_only_if_asked_for(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("large", (1 << 18, 300), "f4", chunks=(16, 300))[:16] = 1.0  # 300 MiB
        file.create_dataset("unwritten", (200, 100), "f4")
        file.create_dataset("empty chunks", (200, 100), "f4", chunks=(10, 100))
    for name in ("large", "unwritten", "empty chunks"):
        with pytest.raises(DataError, match=r"are stored: .*; pass allow_sparse=True if you mean that"):
            load_hdf5(tmp_path / "a.h5", name)
    for name in ("unwritten", "empty chunks"):
        assert not load_hdf5(tmp_path / "a.h5", name, allow_sparse=True).any()
    with pytest.raises(DataError, match="more than max_bytes=1000"):
        load_hdf5(tmp_path / "a.h5", "large", allow_sparse=True, max_bytes=1000)


@pytest.mark.parametrize("depth", [1000, 4000])
def test_a_name_that_is_not_there_is_found_out_fast(tmp_path, depth):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file
        for _ in range(depth):
            group = group.create_group("g")
        group["x"] = [1.0]
        wide = file.create_group("wide")
        for i in range(3000):
            wide.create_group(f"{i:04}")
        file["zebra"] = [1.0]
        file["loop"] = file["wide"]
    begun = time.perf_counter()
    with pytest.raises(DataError, match="no dataset 'y'; it holds "):
        load_hdf5(tmp_path / "a.h5", "y")
    assert time.perf_counter() - begun < 2.0  # a walk by whole names took 390 s of 8000 groups


def test_the_datasets_that_a_message_names(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a/b/c"] = [1]
        file["a/again"] = file["a"]  # a circle
        file["d"] = [1]
        file["soft"] = h5py.SoftLink("/d")
    with pytest.raises(DataError, match=r"it holds the datasets 'a/again/again/.*'d'|it holds the datasets 'a/"):
        load_hdf5(tmp_path / "a.h5", "x")
