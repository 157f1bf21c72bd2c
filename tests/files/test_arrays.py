"""NumPy's files: arrays come back, whatever else is one DataError that names the file."""

import io
import os
import random
import struct

import numpy as np
import pytest

from aaecore.errors import DataError
from aaecore.files.arrays import load_array, save_array
from aaecore.files.npy import load_npy

X = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "f2", "u1", ">i8", "?"])
@pytest.mark.parametrize("x", [X, X.T, X[:0], X[:, :, None], np.float32(3), X[:, 0]], ids=lambda x: str(x.shape))
def test_arrays_come_back(tmp_path, x, dtype):
    given = np.array(x, dtype, order="K")
    np.save(tmp_path / "a.npy", given)
    found = load_array(str(tmp_path / "a.npy"))
    np.testing.assert_array_equal(found, given, strict=True)
    assert found.flags.writeable


@pytest.mark.parametrize("name", ["a.npy", "a.h5"])
@pytest.mark.parametrize("x", [X, X[:, 0], X.astype(">f8"), X[::2]], ids=lambda x: str(x.shape))
def test_what_was_saved_is_loaded(tmp_path, x, name):
    save_array(tmp_path / name, x, "z")
    np.testing.assert_array_equal(load_array(str(tmp_path / name), "z"), x)
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ["a.npy", "a.h5"])
@pytest.mark.parametrize("cut", [0.0, 0.5, -100])
def test_what_does_not_read_back_replaces_nothing(tmp_path, monkeypatch, name, cut):
    save_array(tmp_path / name, X, "z")
    real = os.write

    def write_other(file, data):
        at = int(cut * len(data)) if cut >= 0 else len(data) + int(cut)
        real(file, bytes(data[:at]) + bytes(b ^ 0xFF for b in data[at : at + 100]) + bytes(data[at + 100 :]))
        return len(data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write_other)
        try:
            save_array(tmp_path / name, X + 1, "z")
        except OSError as error:
            assert "what was written" in str(error)  # noqa: PT017 - some bytes of an HDF5 file hold nothing
            np.testing.assert_array_equal(load_array(str(tmp_path / name), "z"), X)
        else:
            assert name == "a.h5"
            np.testing.assert_array_equal(load_array(str(tmp_path / name), "z"), X + 1)


def file_of(header, content=b"", version=(1, 0)):
    head = header.encode("latin1")
    size = struct.pack("<H" if version == (1, 0) else "<I", len(head))
    return b"\x93NUMPY" + bytes(version) + size + head + content


def header(shape="(2,)", descr="'<f4'", order="False"):
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


BAD = {
    "empty": b"",
    "text": b"x,y\n1,2\n",
    "magic only": b"\x93NUMPY",
    "no header": b"\x93NUMPY\x01\x00",
    "cut header": file_of(header(), bytes(8))[:20],
    "later version": file_of(header(), bytes(8), (3, 0)),
    "absurd version": file_of(header(), bytes(8), (9, 9)),
    "no dictionary": file_of("[1, 2]\n"),
    "nested": file_of("(" * 5000 + "\n"),
    "nested in a dictionary": file_of(header("[" * 300 + "]" * 300), bytes(8)),
    "code": file_of("__import__('os').abort()\n"),
    "unfinished": file_of("{'descr': '<f4"),
    "not closed": file_of("{'descr': (\n"),
    "null": file_of("\0\0\0\n"),
    "other keys": file_of("{'descr': '<f4'}\n"),
    "no dtype": file_of(header(descr="'q9'"), bytes(8)),
    "objects": file_of(header(descr="'|O'"), bytes(16)),
    "records": file_of(header(descr="[('a', '<f4')]"), bytes(8)),
    "strings": file_of(header(descr="'<U1'"), bytes(8)),
    "no bytes each": file_of(header(descr="'|V0'")),
    "empty strings": file_of(header("(1000000000000,)", descr="'|S0'")),
    "complex": file_of(header(descr="'<c8'"), bytes(16)),
    "negative": file_of(header("(-2, -1)"), bytes(8)),
    "absurd": file_of(header("(1000000000000, 1000000000000)"), bytes(8)),
    "beyond integers": file_of(header(f"({10**400},)"), bytes(8)),
    "no shape": file_of(header("'x'"), bytes(8)),
    "true": file_of(header("(True, 2)"), bytes(4)),
    "short": file_of(header(), bytes(7)),
    "long": file_of(header(), bytes(9)),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_one_error(tmp_path, case):
    (tmp_path / "a.npy").write_bytes(BAD[case])
    with pytest.raises(DataError) as info:
        load_npy(tmp_path / "a.npy")
    assert str(info.value).startswith(f"{tmp_path / 'a.npy'}: ")
    assert len(str(info.value)) < 700


def test_damaged_bytes_are_a_data_error_or_data(tmp_path):
    buffer, rng, errors = io.BytesIO(), random.Random(5), 0
    np.save(buffer, X)
    whole = buffer.getvalue()
    for _ in range(500):
        damaged = bytearray(whole)
        for _ in range(rng.choice((1, 1, 3))):
            damaged[rng.randrange(130)] = rng.randrange(256)
        (tmp_path / "a.npy").write_bytes(damaged)
        try:
            assert load_npy(tmp_path / "a.npy").size == 12
        except DataError:
            errors += 1
    assert errors > 150
