"""Data as users have them: bits in bytes, tables of objects, arrays in files, values beyond a range by a rounding."""

import warnings

import h5py
import numpy as np
import pytest

from aaecore import AAE, VAE, Trainer, data
from aaecore.app import config, runs, sources
from aaecore.arguments import FILE_BYTES

D = 12
BITS = (np.random.default_rng(0).random((60, D)) < 0.3).astype(np.uint8)
READ_OTHERWISE = r"uint8 is for images, 0\.\.255, and the 0 and 1 that came would be read as 0 and 1/255"


def model(**options):
    return AAE(D, 2, (8,), **options)


def fit(trainer, x, epochs=1, **options):
    return trainer.fit(x, epochs, progress=False, **options)


# --- bytes of 0 and 1 -------------------------------------------------------------------------------------------------


def test_bytes_of_0_and_1_are_no_data_set():
    """Fingerprints, masks and one-hot columns: to read them as 0 and 1/255 without a word would be wrong."""
    trainer = Trainer(model(), 20)
    with pytest.raises(ValueError, match=rf"^x: {READ_OTHERWISE}; .* pass x\.astype\('float32'\), .* / 255$"):
        fit(trainer, BITS)
    with pytest.raises(ValueError, match=rf"^validation: {READ_OTHERWISE}"):
        fit(trainer, BITS.astype(np.float32), validation=BITS)
    assert trainer.steps == 0


def test_a_file_of_bytes_of_0_and_1_is_no_data_of_a_run(tmp_path):
    np.save(tmp_path / "x.npy", BITS)
    options = config.of(AAE)(data=str(tmp_path / "x.npy"))
    source = sources.load(options)
    with pytest.raises(ValueError, match=rf"^data: {READ_OTHERWISE}"):
        runs.new_trainer(options, runs.parts(options, source)[0], source)


def test_rows_of_0_and_1_that_may_be_dark_pictures_are_a_warning():
    m = model()
    for use in (m.encode, m.reconstruct, m.evaluate, Trainer(m, 20).step):
        with pytest.warns(UserWarning, match=rf"^x: {READ_OTHERWISE}"):
            use(BITS[:20])


@pytest.mark.parametrize(
    "x",
    [
        np.zeros((20, D), np.uint8),  # nothing to misread
        BITS * 255,
        np.where(np.arange(60 * D).reshape(60, D) == 60 * D - 1, 2, BITS).astype(np.uint8),  # the very last is a 2
        BITS.astype(bool),
        BITS.astype(np.int64),
        BITS.astype(np.float32),
    ],
)
def test_what_can_be_read_in_one_way_only_is_taken_without_a_word(x):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(Trainer(model(), 20), x)
        model().encode(x)


def test_bits_of_other_dtypes_are_the_numbers_0_and_1():
    m = model()
    for x in (BITS.astype(bool), BITS.astype(np.int8)):
        assert m.evaluate(x) == m.evaluate(BITS.astype(np.float32))


def test_a_large_table_of_bytes_is_read_up_to_its_first_pixel():
    looked = []

    class Counted(np.ndarray):
        def max(self, *args, **options):
            looked.append(len(self))
            return super().max(*args, **options)

    x = np.full((100_000, 100), 255, np.uint8).view(Counted)
    assert not data.arrays.is_bits(x)
    assert len(looked) == 1


# --- ranges -----------------------------------------------------------------------------------------------------------


def test_a_rounding_beyond_the_range_is_no_error():
    x = np.random.default_rng(1).random((60, D), np.float32)
    x[0, 0], x[1, 1] = np.nextafter(np.float32(1), np.float32(2)), -1e-9
    assert np.isfinite(fit(Trainer(model(), 20), x)["reconstruction"][0])


@pytest.mark.parametrize("kind", [AAE, VAE])
@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({}, "give the model reconstruction='mse', output='linear', which"),
        ({"reconstruction": "mse", "output": "sigmoid"}, "give the model output='linear', which"),
    ],
)
def test_a_loss_that_no_sigmoid_can_lower_says_what_to_do(kind, options, advice):
    x = np.random.default_rng(1).standard_normal((60, D))
    m = kind(D, 2, (8,), **options)
    for use in (lambda x: fit(Trainer(m, 20), x), Trainer(m, 20).step, m.evaluate):
        with pytest.raises(ValueError, match=rf"^x: expected values in \[0, 1\], got -.*; scale it, .*, or {advice}"):
            use(x)
    fit(Trainer(kind(D, 2, (8,), reconstruction="mse", output="linear"), 20), x)


def test_codes_need_no_range():
    x = np.random.default_rng(1).standard_normal((60, D)) * 3
    m = model()
    assert np.isfinite(m.encode(x)).all()
    assert np.isfinite(m.reconstruct(x)).all()
    assert np.isfinite(m.score_samples(x, by="discriminator")).all()


# --- tables of objects, sparse ones, arrays in files ------------------------------------------------------------------


class Frame:
    """What a table with columns of several kinds does."""

    def __init__(self, columns):
        self.columns = list(columns)
        self.rows = np.array(list(columns.values()), object).T

    def __array__(self, dtype=None, copy=None):
        return self.rows


def test_columns_of_several_kinds_are_taken_if_all_are_numbers():
    columns = {"a": [0.5, 1.5], "b": [True, False], "c": [np.int64(3), np.float32(4)], "d": [1, 2**70]}
    out = data.as_matrix(Frame(columns))
    np.testing.assert_array_equal(out, np.float32([[0.5, 1, 3, 1], [1.5, 0, 4, 2.0**70]]))
    assert data.as_labels(np.array([0, 1, -1], object), "y", 3).tolist() == [0, 1, -1]


@pytest.mark.parametrize("bad", [None, "1", 1j, [1.0], object()])
def test_a_column_that_is_no_number_is_named(bad):
    with pytest.raises(TypeError, match=r"^x: expected an array of real numbers, .* in row 1, column 'size'$"):
        data.as_matrix(Frame({"a": [1, 2], "size": [3, bad]}))
    with pytest.raises(TypeError, match=r"in row 1, column 1$"):
        data.as_matrix(_with(bad))


def _with(bad):
    array = np.ones((2, 2), object)
    array[1, 1] = bad
    return array


def test_integers_that_no_float_holds():
    with pytest.raises(ValueError, match=r"^x: expected numbers that float64 can hold, got larger integers$"):
        data.as_matrix(_with(10**400))


def test_a_sparse_matrix_is_told_to_be_made_dense():
    class Sparse:
        def toarray(self):
            raise AssertionError

    for use, name in ((model().encode, "x"), (model().decode, "z"), (lambda y: data.as_labels(y, "y", 3), "y")):
        with pytest.raises(
            TypeError, match=rf"^{name}: expected a dense array, got a sparse one; .* {name}.toarray\(\)$"
        ):
            use(Sparse())


def test_an_array_in_a_file_is_read_only_if_it_is_small(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.ones((20, D), np.float32)
        file.create_dataset("large", (FILE_BYTES // 4 // D + 1, D), "f4")  # of which nothing is stored
        assert model().encode(file["x"]).shape == (20, 2)
        for use in (lambda x: fit(Trainer(model(), 20), x), model().encode):
            with pytest.raises(
                TypeError, match=r"^x: expected an array in memory, got Dataset of \d+ bytes in a file; "
            ):
                use(file["large"])


def test_what_a_file_has_beside_open_arrays_is_one_clear_error(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.ones((20, D), np.float32)
        x, group = file["x"], file.create_group("group")
        for given in (file, group):
            with pytest.raises(TypeError, match=r"^x: expected an array, got (File|Group); .*, x\['name'\]$"):
                model().encode(given)
    with pytest.raises(ValueError, match=r"^x: expected an array of an open file, got <Closed HDF5 dataset>: "):
        model().encode(x)
    with pytest.raises(TypeError, match=r"^x: expected an array, got File; "):
        fit(Trainer(model(), 20), file)


def test_a_memory_map_is_taken_as_it_is(tmp_path):
    x = np.memmap(tmp_path / "x", np.float32, "w+", shape=(60, D))
    x[:] = 0.5
    out = data.as_matrix(x, unit_range=True)
    assert np.shares_memory(out, x)
    fit(Trainer(model(), 20), x)


def test_masked_arrays_are_uncovered_nowhere():
    m = model()
    state = m.state_dict()
    masked = {name: np.ma.masked_array(value, True) for name, value in state.items()}
    x, y = np.ones((4, D), np.float32), np.ma.masked_array([0, 1, 2, 3], True)
    for use in (
        lambda: m.load_state_dict(masked),
        lambda: data.as_labels(y, "y", 4),
        lambda: Trainer(m, 4).step(x, z_prior=np.ma.masked_array(np.ones((4, 2)), True)),
        lambda: m.decode(np.ma.masked_array(np.ones((4, 2)), True)),
    ):
        with pytest.raises(TypeError, match="expected a plain array, got a masked one"):
            use()
    assert all(np.array_equal(value, m.state_dict()[name]) for name, value in state.items())
