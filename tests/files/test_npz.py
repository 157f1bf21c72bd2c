"""Archives of NumPy arrays, and strings in single ones: what is read, and files that are damaged or lie."""

import io
import random
import zipfile

import numpy as np
import pytest

from aaecore.errors import DataError
from aaecore.files.npy import load_npy, load_npz, npz_names

ARRAYS = {
    "x": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "by columns": np.asfortranarray(np.arange(6, dtype=np.uint8).reshape(2, 3)),
    "big": np.arange(4, dtype=">i8"),
    "none": np.zeros((0, 3)),
    "one": np.array(2.5),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_come_as_they_were_saved(tmp_path, save):
    save(tmp_path / "a.npz", **ARRAYS, words=np.array(["a", "bc"]), objects=np.array([{}], object))
    assert npz_names(tmp_path / "a.npz") == [*ARRAYS, "words", "objects"]
    read = load_npz(tmp_path / "a.npz", list(ARRAYS))
    assert read.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(read[name], array, strict=True)
    assert load_npz(tmp_path / "a.npz", ["words"], texts=True)["words"].tolist() == ["a", "bc"]
    for name, message in (("words", "expected real numbers, got dtype <U2"), ("objects", "got dtype object")):
        with pytest.raises(DataError, match=rf"a\.npz: '{name}': .*{message}"):
            load_npz(tmp_path / "a.npz", [name])
    with pytest.raises(
        DataError, match=r"a\.npz: expected an array 'y', got x, by columns, big, none, one, words, obj"
    ):
        load_npz(tmp_path / "a.npz", ["y"])


@pytest.mark.parametrize("array", [np.array(["a", "äß", ""]), np.array([b"a", b"bc"])])
def test_strings_are_read_where_they_are_wanted(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(load_npy(tmp_path / "a.npy", texts=True), array, strict=True)
    with pytest.raises(DataError, match="expected real numbers, got dtype"):
        load_npy(tmp_path / "a.npy")


def test_strings_without_characters_are_refused(tmp_path):
    """Their number is not bounded by the bytes of the file, and NumPy makes one byte of each."""
    header = b"{'descr': '|S0', 'fortran_order': False, 'shape': (1000000000000,)}\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(DataError, match="expected real numbers or strings, got dtype"):
        load_npy(tmp_path / "a.npy", texts=True)


def test_files_that_are_no_archives(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 and so on")
    np.save(tmp_path / "b.npy", ARRAYS["x"])
    for name in ("a.npz", "b.npy"):
        with pytest.raises(DataError, match=f"{name}: not a readable NumPy archive: File is not a zip file"):
            load_npz(tmp_path / name, ["x"])
    with pytest.raises(DataError, match="no such file"):
        npz_names(tmp_path / "c.npz")


def test_an_archive_that_unpacks_to_more_than_it_can_hold(tmp_path):
    member = zipfile.ZipInfo("x.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr(member, b"\x93NUMPY")
    whole = bytearray((tmp_path / "a.npz").read_bytes())
    size = (2**31).to_bytes(4, "little")
    at = whole.index(b"PK\x01\x02")
    whole[at + 24 : at + 28] = size
    (tmp_path / "a.npz").write_bytes(whole)
    with pytest.raises(DataError, match=r"'x' declares 2147483648 bytes, more than a file of this size can hold"):
        load_npz(tmp_path / "a.npz", ["x"])


def test_damaged_bytes_are_a_data_error_or_data(tmp_path):
    buffer, rng, errors = io.BytesIO(), random.Random(5), 0
    np.savez_compressed(buffer, x=ARRAYS["x"])
    whole = buffer.getvalue()
    for _ in range(500):
        damaged = bytearray(whole)
        for _ in range(rng.choice((1, 1, 3))):
            damaged[rng.randrange(len(whole))] = rng.randrange(256)
        (tmp_path / "a.npz").write_bytes(damaged)
        try:
            np.testing.assert_array_equal(load_npz(tmp_path / "a.npz", ["x"])["x"], ARRAYS["x"])
        except DataError:
            errors += 1
    assert errors > 150
