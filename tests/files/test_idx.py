"""IDX files of bytes: arrays come back, whatever else is one DataError that names the file."""

import gzip
import struct

import numpy as np
import pytest

from aaecore.data import read_idx
from aaecore.errors import DataError


def _header(shape, magic=None):
    return (magic or bytes([0, 0, 8, len(shape)])) + struct.pack(f">{len(shape)}I", *shape)


def _idx(values):
    return _header(values.shape) + values.tobytes()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("shape", [(1,), (300,), (5, 4, 3), (70, 28, 28)])
def test_read_idx(tmp_path, shape, pack):
    x = (np.arange(np.prod(shape)) % 251).astype(np.uint8).reshape(shape)
    (tmp_path / "a").write_bytes(pack(_idx(x)))
    out = read_idx(tmp_path / "a")
    np.testing.assert_array_equal(out, x, strict=True)
    assert out.flags.writeable


GOOD = _idx(np.arange(20, dtype=np.uint8).reshape(5, 4))
PACKED = gzip.compress(GOOD)
BAD_IDX = {
    "empty file": (b"", "starts with nothing"),
    "text": (b"label,pixel\n", "not an IDX file of unsigned bytes: it starts with 6c616265"),
    "floats": (_header((2,), b"\x00\x00\x0d\x01") + bytes(8), "starts with 00000d01"),
    "little-endian": (b"\x01\x08\x00\x00" + bytes(20), "starts with 01080000"),
    "no dimensions": (b"\x00\x00\x08\x00" + bytes(20), "starts with 00000800"),
    "200 dimensions": (b"\x00\x00\x08\xc8" + bytes(900), "starts with 000008c8"),
    "half a header": (GOOD[:10], "ends inside its header of 2 dimensions"),
    "no rows": (_header((0, 4)), r"is empty: shape \(0, 4\)"),
    "short": (GOOD[:-1], r"declares shape \(5, 4\), 20 bytes, but holds 19"),
    "short gzip content": (gzip.compress(GOOD[:-1]), r"declares shape \(5, 4\), 20 bytes, but holds 19"),
    "long": (GOOD + b"\x00", "but holds more"),
    "long gzip content": (gzip.compress(GOOD + b"\x00"), "but holds more"),
    "declares terabytes": (_header((2**32 - 1, 28, 28)) + b"1", "more than a file of this size can hold"),
    "declares terabytes, gzip": (
        gzip.compress(_header((2**32 - 1, 28)) + b"1"),
        "more than a file of this size can hold",
    ),
    "cut gzip": (PACKED[:-9], "not a readable IDX file: .*end-of-stream"),
    "gzip without its checksum": (PACKED[:-8], "not a readable IDX file: .*end-of-stream"),
    "wrong gzip checksum": (PACKED[:-8] + b"\x00" * 4 + PACKED[-4:], "not a readable IDX file: CRC"),
    "garbage after gzip": (PACKED + b"garbage", "not a readable IDX file: Not a gzipped file"),
    "gzip header only": (PACKED[:5], "not a readable IDX file: .*end-of-stream"),
    "damaged deflate": (PACKED[:10] + b"\xff" * 8 + PACKED[18:], "not a readable IDX file: Error -3"),
}


@pytest.mark.parametrize("case", BAD_IDX)
def test_read_idx_refuses(tmp_path, case):
    content, message = BAD_IDX[case]
    (tmp_path / "a.gz").write_bytes(content)
    with pytest.raises(DataError, match=message) as info:
        read_idx(tmp_path / "a.gz")
    assert str(info.value).startswith(f"{tmp_path / 'a.gz'}: ")


def test_read_idx_missing(tmp_path):
    with pytest.raises(DataError, match="none: no such file"):
        read_idx(tmp_path / "none")
