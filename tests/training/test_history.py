"""The history: a sequence of rows with columns, a table for people, and how a checkpoint holds it."""

import time

import numpy as np
import pytest
from trained import model, rows

from aaecore import CheckpointError, Trainer, callbacks
from aaecore.files import checkpoint
from aaecore.training import columns
from aaecore.training.history import History

ROWS = [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0, "fid": None}, {"epoch": 3, "loss": 0.5, "fid": 7.0}]


class Adds(callbacks.Callback):
    """Puts values into the rows, an epoch at a time."""

    def __init__(self, *values):
        self.values = values

    def on_epoch_end(self, trainer, row):
        row["added"] = self.values[trainer.epoch - 1]


def fitted(*values):
    trainer = Trainer(model(), 65)
    trainer.fit(rows(), len(values), callbacks=[Adds(*values)], progress=False)
    return trainer


def test_it_is_a_sequence_of_rows_with_columns():
    history = History(ROWS)
    assert list(history) == ROWS
    assert (len(history), history[0], history[-1], history[1:]) == (3, ROWS[0], ROWS[2], ROWS[1:])
    assert (history["loss"], history["fid"]) == ([2.0, 1.0, 0.5], [None, 7.0])
    assert history.columns == ["epoch", "loss", "fid"]
    assert "loss" in history
    assert "lost" not in history
    assert ROWS[1] in history
    with pytest.raises(KeyError, match="expected one of epoch, loss, fid, got 'lost'"):
        history["lost"]
    with pytest.raises(KeyError, match="no columns yet"):
        History()["loss"]


def test_pandas_makes_a_table_of_it():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed: pip install pandas")
    for table in (pandas.DataFrame(History(ROWS)), pandas.DataFrame(History(ROWS).rows)):
        assert list(table.columns) == ["epoch", "loss", "fid"]
        assert table.loss.tolist() == [2.0, 1.0, 0.5]


def test_people_see_a_table_of_the_first_and_the_last_rows():
    assert repr(History()) == "History of 0 epochs"
    lines = repr(History(ROWS)).splitlines()
    assert lines[:3] == ["History of 3 epochs", "epoch  loss  fid", "    1     2     "]
    long = repr(History([{"epoch": i + 1, "<b>": 1 / (i + 1)} for i in range(1000)])).splitlines()
    assert [line.split()[0] for line in long[2:]] == ["1", "2", "3", "4", "5", "...", *map(str, range(996, 1001))]
    html = History([{"epoch": "<i>", "<b>": 0.25}])._repr_html_()
    assert "<th>&lt;b&gt;</th>" in html
    assert "<td>&lt;i&gt;</td><td>0.25</td>" in html


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ((None, 1.5), (None, 1.5)),
        (("good", "b\u00e4d"), ("good", "b\u00e4d")),
        ((np.float32(0.5), np.float64(2.0)), (0.5, 2.0)),
        ((np.int64(3), 2**70), (3, 2**70)),
        ((np.bool_(True), False), (True, False)),
        ((np.array(0.25), float("inf")), (0.25, float("inf"))),
    ],
)
def test_what_callbacks_add_is_plain_and_comes_back(given, kept, tmp_path):
    trainer = fitted(*given)
    assert trainer.history["added"] == list(kept)
    assert [type(value) for value in trainer.history["added"]] == [type(value) for value in kept]
    trainer.save(tmp_path / "a.h5")
    assert Trainer.resume(tmp_path / "a.h5").history.rows == trainer.history.rows
    trainer.history.to_csv(tmp_path / "a.csv")
    lines = (tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()
    assert lines[1].endswith("," + ("" if kept[0] is None else str(kept[0])))


@pytest.mark.parametrize("value", [np.zeros(2), {"a": 1}, 1j, b"bytes"])
def test_what_no_file_could_hold_is_found_in_its_epoch(value):
    with pytest.raises(TypeError, match="history: 'added': expected a number, text or None, got"):
        fitted(value, 1.0)


def test_columns_come_back_with_their_gaps_and_types():
    wide = [{**row, "a/b": float("nan"), "meta": i, "": 2**63, "n": -0.0} for i, row in enumerate(ROWS)]
    arrays, described = columns.to_columns(wide)
    assert {name: array.dtype.name for name, array in arrays.items()} == {
        "history/0": "int64", "history/1": "float64", "history/2": "float64", "history/3": "int64",
        "history/5": "float64",
    }  # fmt: skip
    assert columns.expected(described) == {name: (array.shape, array.dtype.name) for name, array in arrays.items()}
    back = columns.from_columns(described, arrays)
    assert repr(back.rows) == repr([{name: row[name] for name in back.columns if name in row} for row in wide])
    assert back.columns == ["epoch", "loss", "a/b", "meta", "", "n", "fid"]
    assert columns.last_row(described) == wide[2]


def test_a_file_of_the_first_format_has_rows():
    described = [[[name, value] for name, value in row.items()] for row in ROWS]
    assert columns.expected(described) == {}
    assert columns.from_columns(described, {}).rows == ROWS
    assert columns.last_row(described) == ROWS[2]
    assert columns.last_row([]) == columns.last_row(columns.to_columns([])[1]) == {}


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h.update(rows=10**12),
        lambda h: h.update(rows=-1),
        lambda h: h.update(rows=True),
        lambda h: h.update(columns=[], rows=10**12),
        lambda h: h["columns"].append(h["columns"][0]),
        lambda h: h["columns"][0].__setitem__(0, 3),
        lambda h: h["columns"][0].__setitem__(1, "uint8"),
        lambda h: h["columns"][-1][1].update(rows=[1, 10**12]),
        lambda h: h["columns"][-1][1].update(rows=[1, 0]),
        lambda h: h["columns"][-1][1].update(rows=[0]),
        lambda h: h["columns"][-1][1].update(values=[[], 1.0]),
        lambda h: h.clear(),
    ],
)
def test_a_hostile_description_is_one_error(change, tmp_path):
    path = tmp_path / "a.h5"
    trainer = fitted(None, 1.0)
    trainer.save(path)
    tensors, meta = read(path)
    change(meta["history"])
    checkpoint.write(path, tensors, meta)
    with pytest.raises(CheckpointError):
        Trainer.resume(path)


def test_a_short_description_cannot_ask_for_many_rows():
    with pytest.raises(ValueError, match="expected 1000000000000 rows of a history that are not empty, got 1"):
        columns.expected({"rows": 10**12, "columns": [["a", {"rows": [0], "values": [1]}]], "last": []})


def read(path):
    from aaecore.training import state

    return checkpoint.read(path, lambda meta: state.expected(meta, Trainer))


def test_a_save_costs_little_more_after_many_epochs(tmp_path):
    """Of 20000 epochs not ten times that of 100; of 320000 a file at all."""
    trainer = fitted(1.0)
    row = trainer.history[0]

    def seconds(epochs):
        trainer.history = History([{**row, "epoch": i + 1} for i in range(epochs)])
        times = []
        for _ in range(3):
            begun = time.process_time()
            trainer.save(tmp_path / "a.h5")
            times.append(time.process_time() - begun)
        return min(times)

    few = seconds(100)
    assert seconds(20_000) < 10 * few
    trainer.history = History([{**row, "epoch": i + 1, "reconstruction": 1 / (i + 1)} for i in range(320_000)])
    trainer.save(tmp_path / "a.h5")
    assert Trainer.resume(tmp_path / "a.h5").history.rows == trainer.history.rows
