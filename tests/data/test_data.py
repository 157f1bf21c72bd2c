"""aaecore.data: what user arrays and HDF5 files become, and the one clear error for each kind of bad input."""

import struct
import zlib

import h5py
import numpy as np
import pytest

from aaecore import data
from aaecore.data import arrays
from aaecore.errors import DataError

ROWS = np.arange(12, dtype=np.float64).reshape(3, 4) / 11  # not a float32 among them but 0 and 1


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("rows", [0, 3])
def test_as_matrix_returns_the_same_memory(rows, dtype):
    x = np.ones((rows, 4), dtype)
    x.flags.writeable = False
    out = data.as_matrix(x, features=4, unit_range=True, non_empty=rows > 0)
    assert out.dtype == dtype
    assert out.ctypes.data == x.ctypes.data
    assert not out.flags.writeable


@pytest.mark.parametrize("dtype", ["f2", ">f4", "<f8", ">f8", "g", "?", "i1", ">i2", "<i8", "<u2", ">u4", "u8"])
def test_as_matrix_converts_numbers_to_float32(dtype):
    x = np.array([[0, 1, 1], [1, 0, 1]], dtype)
    out = data.as_matrix(x, unit_range=True)
    assert out.dtype == np.dtype(np.float32)
    assert out.flags.c_contiguous
    np.testing.assert_array_equal(out, [[0, 1, 1], [1, 0, 1]])


LAYOUTS = {
    "fortran": np.asfortranarray,
    "every other row": lambda x: np.repeat(x, 2, axis=0)[::2],
    "reversed": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "unaligned": lambda x: np.frombuffer(b"?" + x.tobytes(), x.dtype, offset=1).reshape(x.shape),
    "matrix": lambda x: x.view(np.matrix),
    "list": lambda x: x.tolist(),
    "rows in a tuple": tuple,
}


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_as_matrix_accepts_every_layout(layout, dtype):
    x = (ROWS * 200).astype(dtype)
    out = data.as_matrix(LAYOUTS[layout](x))
    assert type(out) is np.ndarray
    assert out.dtype == (np.uint8 if dtype is np.uint8 and layout != "list" else np.float32)
    assert out.flags.c_contiguous
    assert out.flags.aligned
    np.testing.assert_array_equal(out, x.astype(np.float32))


def test_as_matrix_works_under_raising_floating_point_errors():
    with np.errstate(all="raise"):
        assert data.as_matrix([[1e-42, 1e-300]])[0, 1] == 0
        with pytest.raises(ValueError, match="2 of 2 are not"):
            data.as_matrix([[1e300, np.nan]])


@pytest.mark.parametrize("x", [np.float32([[0, 1.00001]]), [[-1e-5, 1]], np.array([[0, 255]], np.int64)])
def test_as_matrix_unit_range_refuses(x):
    assert data.as_matrix(x).shape == (1, 2)
    with pytest.raises(ValueError, match=r"^images: expected values in \[0, 1\], got .* to .*; scale it"):
        data.as_matrix(x, "images", unit_range=True)
    with pytest.raises(ValueError, match=r"pass images as uint8 0\.\.255, or take another loss$"):
        data.as_matrix(x, "images", unit_range=True, otherwise="take another loss")


def test_as_matrix_unit_range_takes_rounding_without_a_copy():
    x = np.array([[0, np.nextafter(np.float32(1), np.float32(2))], [-1e-9, 1 + 9e-7]], np.float32)
    assert data.as_matrix(x, unit_range=True) is x


class OnDevice:
    """What arrays of a device do, and tensors that require gradients."""

    def __init__(self, error):
        self.error = error

    def __array__(self, dtype=None, copy=None):
        raise self.error("no implicit conversion")


@pytest.mark.parametrize(
    ("x", "got"),
    [
        (np.array([[1, "a"]], object), "ndarray of dtype object"),
        ([["1", "2"]], "list of dtype <U1"),
        (np.array([[b"1"]]), r"ndarray of dtype \|S1"),
        (np.ones((2, 2), complex), "ndarray of dtype complex128"),
        (np.zeros((2, 2), [("a", "f4")]), r"ndarray of dtype \[\('a', '<f4'\)\]"),
        (None, "NoneType of dtype object"),
        ([[2**70, None]], "list of dtype object, with None in row 0, column 1"),
        (np.ma.masked_array(ROWS, ROWS > 0.5), r"a masked one; fill it first: pixels.filled\(value\)"),
        ([np.ma.masked_array(row, row > 0.5) for row in ROWS], r"a masked one; fill it first"),
        (OnDevice(TypeError), "OnDevice: no implicit conversion"),
        (OnDevice(RuntimeError), "OnDevice: no implicit conversion"),
    ],
)
def test_as_matrix_type_errors(x, got):
    with pytest.raises(TypeError, match=f"^pixels: expected .*, got {got}"):
        data.as_matrix(x, "pixels")


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (5.0, {}, r"^x: expected 2-D, \(rows, features\), got shape \(\)"),
        (np.ones(4), {}, r"^x: expected 2-D, .* got shape \(4,\)"),
        (np.ones((2, 28, 28), np.uint8), {}, r"got shape \(2, 28, 28\)"),
        ([[1, 2], [3]], {}, "^x: expected an array of numbers, got list: .*inhomogeneous"),
        (ROWS, {"features": 784}, r"^x: expected 784 features \(columns\), got 4: shape \(3, 4\)"),
        (ROWS.astype(np.uint8), {"features": 3}, "^x: expected 3 features .* got 4"),
        (np.empty((0, 4)), {}, r"^x: expected at least one row and one column, got shape \(0, 4\)"),
        (np.empty((4, 0), np.uint8), {}, r"at least one row and one column, got shape \(4, 0\)"),
        (np.empty((0, 4)), {"features": 5, "non_empty": False}, ": expected 5 features"),
    ],
)
def test_as_matrix_shape_errors(x, options, message):
    with pytest.raises(ValueError, match=message):
        data.as_matrix(x, **options)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39, -1e300])
def test_as_matrix_reports_values_that_are_not_finite(value):
    x = ROWS.copy()
    x[1, 2] = x[2, 0] = value
    with pytest.raises(ValueError, match=r"^x: expected finite .* 2 of 12 are not, .* row 1, column 2$") as info:
        data.as_matrix(x, unit_range=True)
    assert f"the first is {value} " in str(info.value)


@pytest.mark.parametrize("row", [0, 1, 261, 262, 523, 524, 598])
def test_as_matrix_finds_the_first_bad_value_in_any_block(row):
    assert arrays._BLOCK // 1000 == 262  # rows in a block
    x = np.zeros((600, 1000), np.float32)
    x[row, 999], x[599, 0] = np.nan, np.inf
    with pytest.raises(ValueError, match=f"2 of 600000 are not, the first is nan at row {row}, column 999"):
        data.as_matrix(x)


@pytest.mark.parametrize("y", [[3, 0, -1], (3.0, 0.0, -1.0), np.array([3, 0, -1], ">i2"), np.array([-1, 0, 3])[::-1]])
def test_as_labels(y):
    out = data.as_labels(y, "y", 3)
    assert out.dtype == np.int64
    assert out.flags.c_contiguous
    assert out.tolist() == [3, 0, -1]


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (["3", "4", "5"], TypeError, "^y: expected an array of real numbers, got list of dtype <U1"),
        ([0, 1], ValueError, r"^y: expected shape \(3,\), one label for each row, got shape \(2,\)"),
        (np.zeros((3, 1)), ValueError, r"got shape \(3, 1\)"),
        ([0, 1.5, np.nan], ValueError, "2 of 3 are not, the first is 1.5 at position 1"),
        ([0, np.inf, 2], ValueError, "1 of 3 are not, the first is inf at position 1"),
        ([0, 1, 1e19], ValueError, "the first is 1e[+]19 at position 2"),
        (np.array([0, 1, 2**63], np.uint64), ValueError, "the first is 9223372036854775808 at position 2"),
    ],
)
def test_as_labels_errors(y, error, message):
    with pytest.raises(error, match=message):
        data.as_labels(y, "y", 3)


def test_epoch_order_is_pinned():
    """Resumed runs and published results rely on these; if NumPy changes its stream, this must not pass silently."""
    assert data.epoch_order(8, 1, 2).tolist() == [4, 2, 0, 6, 1, 5, 7, 3]
    assert data.epoch_order(8, 2**64 - 1, 0).tolist() == [0, 7, 4, 2, 6, 3, 1, 5]
    assert zlib.crc32(data.epoch_order(60000, 0, 7).astype("<i8")) == 3297258100


def test_epoch_order_is_a_pure_function_of_seed_and_epoch():
    first = data.epoch_order(1000, 5, 0)
    assert first.dtype == np.int64
    assert np.array_equal(np.sort(first), np.arange(1000))
    assert np.array_equal(first, data.epoch_order(np.int32(1000), np.int64(5), np.uint8(0)))
    assert [data.epoch_order(n, 0, 0).tolist() for n in (0, 1)] == [[], [0]]
    others = [data.epoch_order(1000, seed, epoch) for seed, epoch in [(5, 1), (6, 0), (0, 5), (1, 5)]]
    assert all((first != other).sum() > 900 for other in others)


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ((-1, 0, 0), ValueError, "^n: expected an integer >= 0, got -1"),
        ((5, -1, 0), ValueError, "^seed: expected an integer within .*, got -1"),
        ((5, 2**64, 0), ValueError, "^seed: expected an integer within"),
        ((5, 0, -2), ValueError, "^epoch: expected an integer within .*, got -2"),
        ((5, 0.5, 0), TypeError, "float"),
    ],
)
def test_epoch_order_errors(args, error, message):
    with pytest.raises(error, match=message):
        data.epoch_order(*args)


@pytest.fixture
def h5(tmp_path):
    """write(build) or write(name=values): make a.h5 and give its path."""

    def write(build=lambda f: None, **arrays):
        with h5py.File(tmp_path / "a.h5", "w") as f:
            build(f)
            f.update(arrays)
        return tmp_path / "a.h5"

    return write


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2", "u1", ">i8", "?"])
def test_load_hdf5_keeps_the_dtype_in_native_order(h5, dtype):
    x = np.array([[0, 1], [1, 1], [0, 0]], dtype)
    out = data.load_hdf5(h5(x=x), max_bytes=x.nbytes)
    assert out.dtype == x.dtype.newbyteorder("=")
    assert out.flags.c_contiguous
    assert out.flags.writeable
    np.testing.assert_array_equal(out, x)


@pytest.mark.parametrize(("shape", "expected"), [((5,), (5,)), ((5, 3, 2), (5, 6)), ((2, 4, 4, 3), (2, 48))])
def test_load_hdf5_flattens_each_row(h5, shape, expected):
    x = np.arange(np.prod(shape)).reshape(shape)
    np.testing.assert_array_equal(data.load_hdf5(h5(images=x), "images"), x.reshape(expected), strict=True)


@pytest.mark.parametrize("options", [{"compression": "gzip"}, {"compression": "lzf"}, {"chunks": (7, 3)}])
def test_load_hdf5_reads_chunks_and_filters(h5, options):
    x = np.random.default_rng(0).random((50, 20), np.float32)
    options = {"maxshape": (None, 20), "shuffle": True, "fletcher32": True, **options}
    path = h5(lambda f: f.create_dataset("deep/er/x", data=x, **options))
    np.testing.assert_array_equal(data.load_hdf5(str(path), "/deep//./er/x"), x)


def test_load_hdf5_reads_the_best_case_of_gzip(h5):
    """All zeros is a true dataset (and close to the limit of 1032), so it must not be taken for a bomb."""
    zeros = np.zeros((1000, 20000), np.uint8)
    path = h5(lambda f: f.create_dataset("x", data=zeros, chunks=zeros.shape, compression="gzip"))
    assert zeros.nbytes / path.stat().st_size > 800
    np.testing.assert_array_equal(data.load_hdf5(path), zeros, strict=True)


@pytest.mark.parametrize("name", ["g/absolute/x", "g/relative"])
def test_load_hdf5_follows_soft_links_within_the_file(h5, name):
    path = h5(**{"g/h/x": ROWS, "g/absolute": h5py.SoftLink("/g/h"), "g/relative": h5py.SoftLink("h/x")})
    np.testing.assert_array_equal(data.load_hdf5(path, name), ROWS)


def _refused(path, message, dataset="x", **options):
    with pytest.raises(DataError, match=message) as info:
        data.load_hdf5(path, dataset, **options)
    assert str(info.value).startswith(f"{path}: ")


def test_load_hdf5_needs_a_whole_hdf5_file(h5, tmp_path):
    _refused(tmp_path / "none.h5", "no such file")
    _refused(tmp_path, "no such file")
    path = h5(x=ROWS)
    whole = path.read_bytes()
    for content in (b"x,y\n1,2\n", whole[:8] + bytes(2000), *(whole[:n] for n in range(0, len(whole), 41))):
        path.write_bytes(content)
        _refused(path, "not a readable HDF5 file: ")


@pytest.mark.parametrize("options", [{}, {"compression": "gzip", "fletcher32": True}])
def test_load_hdf5_damaged_bytes_are_a_data_error_or_data(h5, options):
    """Any other exception would escape a caller that handles DataError."""
    path = h5(lambda f: f.create_dataset("g/x", data=ROWS, **options))
    whole, rng, errors = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(150):
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[rng.integers(0, len(whole), 20)] = rng.integers(0, 256, 20)
        path.write_bytes(damaged)
        try:
            assert data.load_hdf5(path, "g/x").ndim in (1, 2)
        except DataError:
            errors += 1
    assert errors > 10


def test_load_hdf5_lists_what_is_there(h5):
    path = h5(**{"train/x": ROWS, "y": [1, 2]})
    _refused(path, "no dataset 'x'; it holds the datasets 'train/x', 'y'$")
    _refused(path, "no dataset 'train/x/z'", "train/x/z")
    _refused(path, "'train' is a group, not a dataset; it holds the datasets 'train/x', 'y'$", "train")
    _refused(path, "'' is a file, not a dataset", "")
    _refused(h5(), "it holds no datasets$")
    _refused(h5(**{f"d{i:02}": [1] for i in range(30)}), r"'d00', .*'d19', \.\.\.$")


def _bomb(f, **options):
    f.create_dataset("x", (2**30, 1024), "f4", **options)
    if options:
        f["x"][:64] = 1


def _chunk_bomb(f):
    """One row, but HDF5 would allocate the whole declared chunk to read it."""
    f.create_dataset("x", (1, 1024), "u1", chunks=(2**21, 1024), maxshape=(None, 1024))
    f["x"].id.write_direct_chunk((0, 0), bytes(100))


def _unknown_filter(f):
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((2, 2))
    properties.set_filter(310, h5py.h5z.FLAG_OPTIONAL, ())  # not registered; optional, or it could not be written
    x = h5py.h5d.create(f.id, b"x", h5py.h5t.NATIVE_FLOAT, h5py.h5s.create_simple((2, 2)), properties)
    x.write_direct_chunk((0, 0), bytes(16))


def _damaged_chunk(f):
    f.create_dataset("x", (2, 2), "f4", chunks=(2, 2), compression="gzip")
    f["x"].id.write_direct_chunk((0, 0), bytes(range(16)))  # not a zlib stream


def _holding(values):
    return lambda f: f.create_dataset("x", data=values)


TERABYTES = "needs 4398046511104 bytes, "
NOT_NUMBERS = ": expected real numbers, got dtype "
REFUSED = {
    "strings": (_holding(["a", "bc"]), f"dataset 'x'{NOT_NUMBERS}object"),
    "complex": (_holding(np.ones((2, 2), complex)), NOT_NUMBERS + "complex128"),
    "records": (_holding(np.zeros(3, [("a", "f4"), ("b", "i4")])), NOT_NUMBERS),
    "variable length": (lambda f: f.create_dataset("x", (3,), h5py.vlen_dtype(float)), NOT_NUMBERS + "object"),
    "no rows": (_holding(np.empty((0, 784), "f4")), r"dataset 'x': expected rows, got shape \(0, 784\)"),
    "scalar": (_holding(3.5), r": expected rows, got shape \(\)"),
    "null": (_holding(h5py.Empty("f4")), ": expected rows, got shape None"),
    "too large": (_holding(ROWS), "needs 96 bytes, more than max_bytes=95$", {"max_bytes": 95}),
    "bomb": (_bomb, TERABYTES + "more than max_bytes=17179869184$"),
    "bomb, no cap": (_bomb, TERABYTES + "but only 0 are stored", {"max_bytes": 2**50}),
    "chunked": (lambda f: _bomb(f, chunks=(64, 1024)), TERABYTES + "but only 262144 are", {"max_bytes": 2**50}),
    "gzip": (lambda f: _bomb(f, chunks=(64, 1024), compression=4), TERABYTES + "but only", {"max_bytes": 2**50}),
    "chunk bomb": (_chunk_bomb, "needs 2147483648 bytes, but only 100 are stored"),
    "unknown filter": (_unknown_filter, "dataset 'x' is compressed with an HDF5 filter plugin that is not installed"),
    "damaged chunk": (_damaged_chunk, "not a readable HDF5 file: .*read data"),
    "loop": (lambda f: f.update(x=h5py.SoftLink("y"), y=h5py.SoftLink("/x")), "'x' runs through more than 16 soft"),
    "dangling": (lambda f: f.update(x=h5py.SoftLink("/nothing")), "no dataset 'x'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_load_hdf5_refuses(h5, case):
    build, message, *options = REFUSED[case]
    path = h5(build)
    assert path.stat().st_size < 300_000
    _refused(path, message, **(options[0] if options else {}))


def test_load_hdf5_does_not_believe_the_stored_size(h5):
    path = h5(lambda f: _bomb(f, chunks=(64, 1024), compression=4))
    with h5py.File(path) as f:
        key = struct.pack("<II3Q", f["x"].id.get_storage_size(), 0, 0, 0, 0)  # of its one chunk: size, mask, offsets
    assert path.read_bytes().count(key) == 1
    path.write_bytes(path.read_bytes().replace(key, b"\xff" * 4 + key[4:]))  # 4 GiB times 1032 is more than declared
    _refused(path, TERABYTES + "but only", max_bytes=2**50)


LINKS = {
    "external": {"x": h5py.ExternalLink("other.h5", "/g/x")},
    "group": {"x": h5py.SoftLink("out/x"), "out": h5py.ExternalLink("other.h5", "/g")},
    "soft": {"x": h5py.SoftLink("/out"), "out": h5py.ExternalLink("other.h5", "/back")},
}


@pytest.mark.parametrize("link", LINKS)
def test_load_hdf5_external_links(h5, tmp_path, link):
    h5(**{"g/x": ROWS, "back": h5py.SoftLink("/g/x")}).rename(tmp_path / "other.h5")
    path = h5(**LINKS[link])
    _refused(path, "'x' is a link to another file; pass allow_external=True if you trust it$")
    np.testing.assert_array_equal(data.load_hdf5(path, allow_external=True), ROWS)
    (tmp_path / "other.h5").unlink()
    _refused(path, "not a readable HDF5 file: .*open", allow_external=True)
    h5(lambda f: _bomb(f.create_group("g"))).rename(tmp_path / "other.h5")
    path = h5(x=h5py.ExternalLink("other.h5", "/g/x"))
    _refused(path, "but only 0 are stored", allow_external=True, max_bytes=2**50)


def _external_storage(f, values, other):
    other.write_bytes(values.tobytes())
    f.create_dataset("x", values.shape, values.dtype, external=[(str(other), 0, values.nbytes)])


def _virtual(f, values, other):
    with h5py.File(other, "w") as source:
        source["x"] = values
    layout = h5py.VirtualLayout(values.shape, values.dtype)
    layout[:] = h5py.VirtualSource(other, "x", shape=values.shape)
    f.create_virtual_dataset("x", layout)


@pytest.mark.parametrize("store", [_external_storage, _virtual])
def test_load_hdf5_values_in_other_files(h5, tmp_path, store):
    path = h5(lambda f: store(f, ROWS, tmp_path / "other"))
    _refused(path, "dataset 'x' keeps its values in other files; pass allow_external=True if you trust it$")
    _refused(path, "needs 96 bytes, more than max_bytes=95", allow_external=True, max_bytes=95)
    np.testing.assert_array_equal(data.load_hdf5(path, allow_external=True), ROWS)


def test_load_hdf5_argument_errors(h5):
    with pytest.raises(TypeError, match="dataset: expected a string, got int"):
        data.load_hdf5(h5(x=ROWS), 0)
    with pytest.raises(TypeError, match="str"):
        data.load_hdf5(h5(x=ROWS), max_bytes="1 GB")
