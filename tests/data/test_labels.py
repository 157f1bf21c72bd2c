"""Labels: which rows a step sees, in fit and in single steps, and one clear error for labels that cannot be used."""

from __future__ import annotations

import csv

import cuda_devices
import numpy as np
import pytest
from small_models import CLASSES, AllLabels, FewLabels, one_hot
from trained import D, StopAt, model, rows, same

import aaecore
from aaecore import Trainer
from aaecore.data import epoch_order
from aaecore.data.table import Stream, Table, stream_order
from aaecore.training import stepper
from aaecore.training.callbacks import Callback

pytestmark = pytest.mark.usefixtures("cuda_device")
DEVICES = ["cpu", "reference", pytest.param("cuda", marks=cuda_devices.needs_device)]
LABELLED = 23
RATES = {"reconstruction": 1e-3, "classification": 2e-3}


@pytest.fixture
def x():
    return rows()


@pytest.fixture
def y():
    """Labels of 130 rows, of which 23 have one."""
    rng = np.random.default_rng(1)
    y = np.full(130, -1)
    y[rng.choice(130, LABELLED, replace=False)] = np.arange(LABELLED) % CLASSES
    return y


def few(size=7, *, record=True, guard=True, **options):
    made = FewLabels(D, **{"seed": 5, **options})
    return Trainer(made, 32, RATES, labelled_batch_size=size, record=record, guard=guard)


def account(x, y, size, epochs, batch=32, seed=5):
    """What each step sees: the rows of x, and the labelled rows with their labels, for a batch of `size` of those."""
    have = np.flatnonzero(y >= 0)
    for epoch in range(epochs):
        order, steps = epoch_order(len(x), seed, epoch), -(-len(x) // batch)
        table = Table({"x": x}, have)
        chosen = stream_order(table, FewLabels.streams["labelled"], 1, steps * size, seed, epoch)
        for i in range(steps):
            mine = chosen[i * size : (i + 1) * size]
            yield x[order[i * batch : (i + 1) * batch]], x[mine], y[mine]


# --- which rows -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [7, 32, 100])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_a_step_sees_the_rows_of_the_account(x, y, size, dtype, monkeypatch):
    """Two epochs of five steps; the last one of an epoch has two rows of x, and as many labelled ones as the others."""
    seen, step = [], FewLabels.step

    def watched(self, batch):
        seen.append([t.numpy() for t in (batch.x, batch.labelled.x, batch.labelled.y)])
        yield from step(self, batch)

    monkeypatch.setattr(FewLabels, "step", watched)
    data = x if dtype is np.float32 else (255 * x).astype(np.uint8)
    few(size, record=False, guard=False).fit(data, 2, y=y, progress=False)
    scaled = data if dtype is np.float32 else data.astype(np.float32) * np.float32(1 / 255)
    expected = list(account(scaled, y, size, 2))
    assert [len(part[0]) for part in expected] == [32, 32, 32, 32, 2] * 2
    assert len(seen) == len(expected)
    for (all_rows, labelled, classes), (all_expected, labelled_expected, y_expected) in zip(
        seen, expected, strict=True
    ):
        assert np.array_equal(all_rows, all_expected)
        assert np.array_equal(labelled, labelled_expected)
        assert np.array_equal(classes, one_hot(y_expected))
        assert (y_expected >= 0).all()
        assert classes.sum() == size


@pytest.mark.parametrize("where", DEVICES)
@pytest.mark.parametrize("record", [True, False])
def test_fit_is_single_steps_on_these_rows(x, y, where, record):
    fitted, by_hand = few(record=record, device=where), few(device=where)
    fitted.fit(x, 2, y=y, progress=False)
    losses = [by_hand.step(a, labelled=(b, c)) for a, b, c in account(x, y, 7, 2)]
    assert same(fitted, by_hand)
    mean = np.average([loss.classification for loss in losses[5:]], weights=[32, 32, 32, 32, 2])
    assert fitted.history["classification"][1] == pytest.approx(mean, rel=1e-6)


@cuda_devices.needs_device
def test_graphs_of_many_steps_see_the_same_rows(x, y, monkeypatch):
    monkeypatch.setattr(stepper, "BURST_SECONDS", 100.0)
    ends = []
    for record in (True, False):
        trainer = Trainer(FewLabels(D, seed=5, device="cuda"), 4, RATES, labelled_batch_size=3, record=record)
        trainer.fit(x[:68], 2, y=y[:68], progress=False)
        ends.append(trainer)
    assert same(*ends)
    assert ends[0].steps == 34


@cuda_devices.needs_device
def test_rows_that_are_on_the_device_have_labels_too(x, y):
    there, here = few(device="cuda"), few(device="cuda")
    there.fit(cuda_devices.DeviceArray(x), 1, y=y, progress=False)
    here.fit(x, 1, y=y, progress=False)
    a, b, c = next(account(x, y, 7, 1))
    there.step(cuda_devices.DeviceArray(a), labelled=(cuda_devices.DeviceArray(b), c))
    here.step(a, labelled=(b, c))
    assert same(there, here)


def test_labels_of_all_rows(x, y):
    fitted, by_hand = (Trainer(AllLabels(D, seed=5), 32) for _ in range(2))
    fitted.fit(x, 2, y=y, progress=False)
    for epoch in range(2):
        order = epoch_order(len(x), 5, epoch)
        for i in range(0, 130, 32):
            by_hand.step(x[order[i : i + 32]], y=y[order[i : i + 32]])
    assert same(fitted, by_hand)


def test_labels_and_a_prior_of_one_name_are_two_things(x, y, monkeypatch):
    seen, step = [], AllLabels.step

    def watched(self, batch):
        seen.append((batch.y.numpy(), batch.draw("y").numpy()))
        yield from step(self, batch)

    monkeypatch.setattr(AllLabels, "step", watched)
    Trainer(AllLabels(D, seed=5), 130, record=False, guard=False).fit(x, 1, y=y, progress=False)
    ((labels, drawn),) = seen
    assert np.array_equal(labels, one_hot(y[epoch_order(130, 5, 0)]))
    assert np.array_equal(drawn.sum(1), np.ones(130)), "a draw always has a class; most labels are none"
    assert labels.sum() == LABELLED


@pytest.mark.parametrize(
    "change", [list, tuple, lambda y: y.astype(np.int32), lambda y: y.astype(np.float64), lambda y: y[::-1][::-1]]
)
def test_labels_come_as_any_whole_numbers(x, y, change):
    ends = [few(), few()]
    for trainer, given in zip(ends, (y, change(y)), strict=True):
        trainer.fit(x, 1, y=given, progress=False)
    assert same(*ends)


def test_labels_that_are_true_or_false(x, y):
    ends = [few(), few()]
    for trainer, given in zip(ends, (y > 0, (y > 0).astype(int)), strict=True):
        trainer.fit(x, 1, y=given, progress=False)
    assert same(*ends)


def test_what_has_no_label_trains_without(x, y):
    """Rows without a label change the reconstruction only: other rows there, the same classification in each step."""
    other = x.copy()
    other[y < 0] = 0.5
    seen = []
    for data in (x, other):
        trainer = few(seed=5)
        trainer.base_lr["reconstruction"] = 0.0
        trainer.fit(data, 2, y=y, progress=False)
        seen.append(trainer.history)
    assert seen[0]["classification"] == seen[1]["classification"]
    assert seen[0]["reconstruction"] != seen[1]["reconstruction"]


# --- the order --------------------------------------------------------------------------------------------------------


def test_labelled_rows_come_round():
    have = np.array([3, 5, 8, 13, 21])
    table = Table({"x": np.zeros((30, 1))}, have)

    def order(seed=0, epoch=0, number=1, rows=17):
        return stream_order(table, Stream(("x",), labelled=True), number, rows, seed, epoch)

    made = order()
    assert (made.shape, made.dtype) == ((17,), np.int64)
    rounds = [made[i : i + 5] for i in range(0, 15, 5)]
    assert all(np.array_equal(np.sort(r), have) for r in rounds), "each labelled row once in every round"
    assert set(made[15:]) <= set(have)
    assert len({tuple(r) for r in rounds}) == 3
    assert np.array_equal(made, order())
    assert np.array_equal(made[:9], order(rows=9)), "a shorter epoch begins like a longer one"
    many = np.arange(500)
    table = Table({"x": np.zeros((500, 1))}, many)
    ways = [{}, {"seed": 1}, {"epoch": 1}, {"number": 2}]
    assert len({tuple(order(rows=500, **way)) for way in ways}) == 4
    assert tuple(order(rows=500)) != tuple(epoch_order(500, 0, 0))


def test_the_order_of_labelled_rows_is_pinned():
    """Resumed runs rely on it."""
    table = Table({"x": np.zeros((8, 1))}, np.arange(8))
    made = stream_order(table, Stream(("x",), labelled=True), 1, 10, 7, 3)
    words = np.random.Philox(key=np.array([7, 2 << 56 | 3], np.uint64)).random_raw(16).reshape(2, 8)
    assert made.tolist() == [*np.argsort(words[0]), *np.argsort(words[1])[:2]]


def test_labels_leave_the_order_of_all_rows_as_it_is():
    table = Table({"x": np.zeros((50, 1))}, np.arange(9))
    for number in (0, 1):
        assert np.array_equal(stream_order(table, Stream(("x",)), number, 50, 4, 2), epoch_order(50, 4, 2))


# --- resume, recorded and validation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("where", DEVICES)
def test_resume_within_an_epoch(x, y, where, tmp_path):
    whole, part = few(device=where), few(device=where)
    whole.fit(x, 3, y=y, validation=(x, y), progress=False)
    part.fit(x, 3, y=y, validation=(x, y), callbacks=[StopAt(8)], progress=False)
    part.save(tmp_path / "part.h5")
    resumed = Trainer.resume(tmp_path / "part.h5")
    assert (resumed.labelled_batch_size, resumed.position, resumed.epoch) == (7, 96, 1)
    resumed.fit(x, 3, y=y, validation=(x, y), progress=False)
    assert same(resumed, whole)
    assert resumed.history.rows == whole.history.rows
    other = Trainer.resume(tmp_path / "part.h5")
    other.fit(x, 3, y=np.roll(y, 1), validation=(x, y), progress=False)
    assert not same(other, whole), "other labels gave the same weights"


def test_validation_has_labels(x, y):
    trainer = few(size=23)
    trainer.base_lr = dict.fromkeys(trainer.base_lr, 0.02)
    trainer.fit(x, 60, y=y, validation=(x, y), progress=False)
    assert set(trainer.history["labelled"]) == {LABELLED}
    assert trainer.history["accuracy"][-1] > 0.9 > trainer.history["accuracy"][0]
    right = trainer.model.predict(x[y >= 0]) == y[y >= 0]
    assert trainer.history["accuracy"][-1] == right.mean()


def test_the_guard_goes_back_with_labels(x, y):
    good, bad = few(), few()
    good.fit(x, 2, y=y, callbacks=[StopAt(7)], progress=False)
    bad.schedule = lambda step: 1e30 if step == 7 else 1.0
    with pytest.raises(FloatingPointError, match="the weights are those after step 7 "):
        bad.fit(x, 2, y=y, progress=False)
    assert same(good, bad)
    bad.schedule = good.schedule
    for trainer in (good, bad):
        trainer.fit(x, 2, y=y, progress=False)
    assert same(good, bad)


def test_labelled_data_on_the_command_line(x, tmp_path, capsys):
    """The embedded digits have labels, and rows of a file have none; neither tells what nobody knows."""
    cli = pytest.importorskip("aaecore.app.cli")
    images = str(tmp_path / "images.npy")
    np.save(images, x)
    run = ["train", "--model", "small_models:FewLabels", "--epochs", "1", "--no-plots", "--folder"]
    assert cli.run([*run, str(tmp_path / "a"), "--classes", "10"]) == 0
    with open(tmp_path / "a" / "history.csv", newline="") as file:
        assert float(next(csv.DictReader(file))["labelled"]) == 1000, "all labels of the test images"
    capsys.readouterr()
    assert cli.run([*run, str(tmp_path / "b"), "--data", images]) == 1
    assert "data: expected labels, since FewLabels learns from some, got none; give --labels" in capsys.readouterr().err
    source = aaecore.app.sources.load(aaecore.app.config.of(aaecore.AAE)(data=images))
    bare = "rows without labels; give --labels for those of a file, or an array y in a .npz"
    for option_of_data, labels, got in (
        ("classes", None, bare),
        ("classes", [-1], bare),
        ("depth", [1], "rows and labels"),
    ):
        with pytest.raises(ValueError, match=f"^data: expected data that tell {option_of_data}, got {got}$"):
            source._replace(train_labels=labels).tells(option_of_data)


# --- what cannot be used ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (np.zeros(129), ValueError, r"y: expected shape \(130,\), one label for each row, got shape \(129,\)"),
        (np.zeros((130, 1)), ValueError, r"y: expected shape \(130,\), one label for each row, got shape \(130, 1\)"),
        (3, ValueError, r"y: expected shape \(130,\), one label for each row, got shape \(\)"),
        (["1"] * 130, TypeError, "y: expected an array of real numbers, got list of dtype <U1"),
        (
            np.full(130, 0.5),
            ValueError,
            "y: expected whole numbers .*, -1 for no label; 130 of 130 are not, the first is 0.5 at position 0",
        ),
        (
            np.full(130, np.nan),
            ValueError,
            "y: expected whole numbers .*, -1 for no label; 130 of 130 are not, the first is nan at position 0",
        ),
        (np.arange(130) % 5, ValueError, "y: expected classes from 0 to 3, or -1 for no label, got 4 at row 4"),
        (np.arange(130) % 3 - 2, ValueError, "y: expected classes from 0 to 3, or -1 for no label, got -2 at row 0"),
        (np.full(130, -1), ValueError, "y: expected a label for at least one row, since Few.* labels, got only -1"),
        (None, ValueError, "y: expected a label for at least one row, since FewLabels learns from labels, got None"),
    ],
)
def test_labels_that_cannot_be_used(x, y, error, message):
    trainer = few()
    with pytest.raises(error, match=f"^{message}$"):
        trainer.fit(x, 1, y=y, progress=False)
    assert trainer.steps == 0
    if y is not None and "only -1" not in message:
        with pytest.raises(error, match=rf"^validation\[1\]{message[1:]}$"):
            trainer.fit(x, 1, y=np.zeros(130), validation=(x, y), progress=False)


def test_labels_that_nobody_takes(x, y):
    trainer = Trainer(model(), 32)
    for run in (
        lambda: trainer.fit(x, 1, y=y, progress=False),
        lambda: trainer.step(x, y=y),
    ):
        with pytest.raises(
            ValueError, match=r"^y: expected None, since AAE takes no labels, got labels of shape \(130,"
        ):
            run()
    with pytest.raises(ValueError, match=r"^validation\[1\]: expected None, since AAE takes no labels, got labels of"):
        trainer.fit(x, 1, validation=(x, y), progress=False)
    with pytest.raises(
        ValueError, match=r"^labelled: expected None, since AAE takes no labelled rows besides, got tuple"
    ):
        trainer.step(x, labelled=(x, y))


def test_single_steps_without_the_labels_that_they_need(x, y):
    with pytest.raises(ValueError, match=r"^y: expected a label for each row, or -1, got NoneType"):
        Trainer(AllLabels(D)).step(x)
    for wrong in (None, x[:7], (x[:7],), [x[:7], y[:7]]):
        with pytest.raises(
            ValueError, match=r"^labelled: expected \(x, y\), since FewLabels takes labelled rows besides"
        ):
            few().step(x, labelled=wrong)
    some = x[y >= 0], y[y >= 0]
    with pytest.raises(ValueError, match=r"^y: expected None, since labels come in labelled=\(x, y\), got ndarray"):
        few().step(x, y=y, labelled=some)


def test_labelled_rows_that_do_not_fit(x, y):
    some_x, some_y = x[y >= 0], y[y >= 0]
    trainer, needs = few(), r"^labelled: expected 7 rows \(labelled_batch_size\), all with a label, got "
    with pytest.raises(ValueError, match=needs + "6 rows, 6 of them with one"):
        trainer.step(x, labelled=(some_x[:6], some_y[:6]))
    with pytest.raises(ValueError, match=needs + "7 rows, 6 of them with one"):
        trainer.step(x, labelled=(some_x[:7], np.where(np.arange(7) == 3, -1, some_y[:7])))
    with pytest.raises(
        ValueError, match=r"^labelled\[1\]: expected shape \(7,\), one label for each row, got shape \(6,\)"
    ):
        trainer.step(x, labelled=(some_x[:7], some_y[:6]))
    with pytest.raises(ValueError, match=r"^labelled\[0\]: expected 20 features"):
        trainer.step(x, labelled=(some_x[:7, :19], some_y[:7]))
    assert trainer.steps == 0
    trainer.step(x, labelled=(some_x[:7], some_y[:7]))
    assert trainer.steps == 1
    for size in (0, True, 2.5):
        with pytest.raises(ValueError, match="labelled_batch_size: expected an integer >= 1"):
            few(size)


# --- other batch sizes ------------------------------------------------------------------------------------------------


class Change(Callback):
    """Sets a size of the trainer, after an epoch or after a burst."""

    def __init__(self, when, **sizes):
        self.when, self.sizes = when, sizes

    def on_epoch_end(self, trainer, row):
        if self.when == "epoch":
            vars(trainer).update(self.sizes)

    def on_burst_end(self, trainer, losses):
        if self.when == "burst":
            vars(trainer).update(self.sizes)


@pytest.mark.parametrize("sizes", [{"batch_size": 20}, {"batch_size": 7}, {"labelled_batch_size": 50}])
@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_batch_sizes_may_change_between_epochs(sizes, device):
    x, y = np.random.default_rng(0).random((100, 12), np.float32), np.arange(100) % 5 - 1
    changed = Trainer(FewLabels(12, seed=1, device=device), 10, labelled_batch_size=5)
    changed.fit(x, 3, y=y, progress=False, callbacks=[Change("epoch", **sizes)])
    again = Trainer(FewLabels(12, seed=1, device=device), 10, labelled_batch_size=5)
    again.fit(x, 1, y=y, progress=False)
    vars(again).update(sizes)
    again.fit(x, 3, y=y, progress=False)
    assert same(changed, again)


@pytest.mark.parametrize("sizes", [{"batch_size": 20}, {"batch_size": 1}, {"labelled_batch_size": 6}])
def test_batch_sizes_within_an_epoch_are_one_clear_error(sizes):
    x, y = np.random.default_rng(0).random((2000, 12), np.float32), np.arange(2000) % 5 - 1
    trainer = Trainer(FewLabels(12, seed=1), 10, labelled_batch_size=5)
    with pytest.raises(ValueError, match=r"batch_size: expected those that the epoch began with, \(10, 5\)"):
        trainer.fit(x, 3, y=y, progress=False, callbacks=[Change("burst", **sizes)])


@pytest.mark.parametrize("size", [20, 7, 1])
def test_the_rest_of_an_epoch_may_have_another_batch_size(size):
    x, y = np.random.default_rng(0).random((100, 12), np.float32), np.arange(100) % 5 - 1
    trainer = Trainer(FewLabels(12, seed=1), 10, labelled_batch_size=5)
    trainer.fit(x, 1, y=y, progress=False, callbacks=[StopAt(3)])
    trainer.batch_size = size
    trainer.fit(x, 1, y=y, progress=False)
    assert trainer.steps == 3 + -(-70 // size)


def test_single_steps_take_another_number_of_labelled_rows():
    x, y = np.random.default_rng(0).random((10, 12), np.float32), np.arange(10) % CLASSES
    trainer = Trainer(FewLabels(12, seed=1), 10, labelled_batch_size=5)
    trainer.step(x, labelled=(x[:5], y[:5]))
    trainer.labelled_batch_size = 6
    trainer.step(x, labelled=(x[:6], y[:6]))
    assert trainer.steps == 2
