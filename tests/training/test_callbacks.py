"""Callbacks of the library: stopping early, keeping the best, and progress that never ends a training."""

import io
import sys
import warnings

import numpy as np
import pytest
from trained import model, rows

from aaecore import CheckpointError, Trainer, callbacks, load
from aaecore.training.history import History


class Scores(callbacks.Callback):
    """Puts a score into every row, and keeps the weights of every epoch."""

    def __init__(self, *scores):
        self.scores, self.weights = scores, []

    def on_epoch_end(self, trainer, row):
        row["score"] = self.scores[trainer.epoch - 1]
        self.weights.append(trainer.model.state_dict())


def equal(a, b):
    return all(np.array_equal(a[name], b[name]) for name in a)


def fit(trainer, scores, *others, epochs=None):
    trainer.fit(rows(), epochs or trainer.epoch + 20, callbacks=[scores, *others], progress=False)


# --- what fit takes ---------------------------------------------------------------------------------------------------


def test_a_function_is_called_after_every_epoch_and_may_stop():
    seen = []

    def look(trainer, row):
        seen.append((trainer.epoch, row["epoch"]))
        return trainer.epoch == 2

    for given in (look, [look], iter([look]), callbacks.EachEpoch(look)):
        seen.clear()
        Trainer(model(), 65).fit(rows(), 9, callbacks=given, progress=False)
        assert seen == [(1, 1), (2, 2)]


def test_one_callback_an_iterator_or_none():
    for given in (callbacks.EarlyStopping("generator"), (c for c in [Scores(*range(2))]), None, ()):
        trainer = Trainer(model(), 65)
        trainer.fit(rows(), 2, callbacks=given, progress=False)
        assert trainer.epoch == 2


@pytest.mark.parametrize("given", [3, [None], [callbacks.EarlyStopping], callbacks.Callback, "loss"])
def test_what_is_no_callback_is_refused(given):
    with pytest.raises(TypeError, match="callbacks: expected objects of Callback or functions f"):
        Trainer(model(), 65).fit(rows(), 2, callbacks=given, progress=False)


# --- early stopping ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, "0.1", None, True, [0.1]])
def test_min_delta_is_checked_where_it_is_given(value):
    with pytest.raises((TypeError, ValueError), match="min_delta: expected a number >= 0"):
        callbacks.EarlyStopping("score", 3, min_delta=value)


def test_other_arguments_are_checked_too(tmp_path):
    for make in (callbacks.EarlyStopping, lambda monitor: callbacks.SaveBest(tmp_path / "a.h5", monitor)):
        for bad in (None, "", 3, ["score"]):
            with pytest.raises(TypeError, match="monitor: expected the name of a column of the history, got"):
                make(bad)
    with pytest.raises(TypeError, match=r"restore_best: expected True or False, got 'best\.h5'"):
        callbacks.EarlyStopping("score", restore_best="best.h5")


def test_a_metric_of_every_second_epoch_stops_by_the_epochs_that_have_it():
    trainer, stop = Trainer(model(), 65), callbacks.EarlyStopping("score", patience=2)
    fit(trainer, Scores(3.0, None, 2.0, None, 2.5, None, 2.5, None), stop)
    assert trainer.epoch == 7


def test_text_is_nothing_to_monitor():
    with pytest.raises(TypeError, match="monitor: expected numbers in column 'score', got 'good' in epoch 1"):
        fit(Trainer(model(), 65), Scores("good"), callbacks.EarlyStopping("score"))


def test_it_stops_where_the_uninterrupted_run_would(tmp_path):
    scores = (5.0, 4.0, 4.5, float("nan"), 4.2, 3.0)
    whole = Trainer(model(), 65)
    fit(whole, Scores(*scores), callbacks.EarlyStopping("score", patience=3))
    assert whole.epoch == 5
    for cut in (1, 2, 3, 4):
        part = Trainer(model(), 65)
        fit(part, Scores(*scores), callbacks.EarlyStopping("score", patience=3), epochs=cut)
        part.save(tmp_path / "a.h5")
        rest = Trainer.resume(tmp_path / "a.h5")
        fit(rest, Scores(*scores), callbacks.EarlyStopping("score", patience=3))
        assert rest.epoch == 5


def test_a_row_is_looked_at_once_and_the_last_one_as_it_is_now():
    class Counts(dict):
        looks = 0

        def get(self, *args):
            Counts.looks += 1
            return super().get(*args)

    history = History()
    trainer = type("Run", (), {"history": history})()
    stop = callbacks.EarlyStopping("score", patience=3)
    for i in range(200):
        history.rows.append(Counts(score=1.0 - i))
        assert not stop.on_epoch_end(trainer, history.rows[-1])
    assert Counts.looks < 1000
    history.rows[-1]["score"] = 5.0
    for late in (6.0, 6.0):
        assert not stop.on_epoch_end(trainer, history.rows[-1])
        history.rows.append(Counts(score=late))
    assert stop.on_epoch_end(trainer, history.rows[-1])
    for other in (History([{"score": 1 / (i + 1)} for i in range(300)]), History([{"score": 1.0}])):
        trainer.history = other
        assert not stop.on_epoch_end(trainer, trainer.history[-1])


# --- the best ---------------------------------------------------------------------------------------------------------


def test_the_best_weights_come_back():
    trainer, scores = Trainer(model(), 65), Scores(3.0, 1.0, 2.0, 2.0, 2.0)
    stop = callbacks.EarlyStopping("score", patience=2, restore_best=True)
    fit(trainer, scores, stop)
    assert trainer.epoch == 4
    assert equal(trainer.model.state_dict(), scores.weights[1])
    scores.scores = (*scores.scores[:4], 2.0, 0.5, 2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(trainer, scores, stop, epochs=5)
    assert equal(trainer.model.state_dict(), scores.weights[1])  # still held
    fit(trainer, scores, callbacks.EarlyStopping("score", patience=9, restore_best=True), epochs=7)
    assert equal(trainer.model.state_dict(), scores.weights[5])


def test_the_best_is_the_lowest_whatever_it_takes_to_go_on():
    trainer, scores = Trainer(model(), 65), Scores(3.0, 2.9, 2.95)
    fit(trainer, scores, callbacks.EarlyStopping("score", min_delta=0.5, restore_best=True), epochs=3)
    assert equal(trainer.model.state_dict(), scores.weights[1])


def test_what_is_held_is_of_the_best_epoch_or_of_no_use():
    trainer, scores = Trainer(model(), 65), Scores(3.0, 4.0, 1.0, 2.0)
    stop = callbacks.EarlyStopping("score", restore_best=True)
    fit(trainer, scores, stop, epochs=2)
    fit(trainer, scores, epochs=3)
    with pytest.warns(RuntimeWarning, match="the weights of the best epoch, 3, are not held"):
        fit(trainer, scores, stop, epochs=4)
    assert equal(trainer.model.state_dict(), scores.weights[3])


def test_weights_stay_where_the_last_epoch_is_the_best_or_nobody_asked():
    for scores, restore in (((3.0, 2.0), True), ((1.0, 2.0), False)):
        trainer, kept = Trainer(model(), 65), Scores(*scores)
        fit(trainer, kept, callbacks.EarlyStopping("score", restore_best=restore), epochs=2)
        assert equal(trainer.model.state_dict(), kept.weights[-1])


def test_who_stops_within_an_epoch_goes_on_from_there():
    class Stop(callbacks.Callback):
        def on_step_end(self, trainer, losses):
            return trainer.steps == 5

    trainer, scores = Trainer(model(), 65), Scores(1.0, 2.0, 3.0)
    fit(trainer, scores, callbacks.EarlyStopping("score", restore_best=True), Stop())
    assert (trainer.epoch, trainer.position) == (2, 65)
    whole = Trainer(model(), 65)
    fit(whole, Scores(1.0, 2.0), Stop())
    assert equal(trainer.model.state_dict(), whole.model.state_dict())


def test_a_best_epoch_before_a_resume_is_said_in_words(tmp_path):
    trainer, path = Trainer(model(), 65), tmp_path / "a.h5"
    fit(trainer, Scores(1.0, 2.0), epochs=2)
    trainer.save(path)
    resumed, scores = Trainer.resume(path), Scores(1.0, 2.0, 3.0)
    with pytest.warns(RuntimeWarning, match="the weights of the best epoch, 1, are not held"):
        fit(resumed, scores, callbacks.EarlyStopping("score", restore_best=True), epochs=3)
    assert equal(resumed.model.state_dict(), scores.weights[-1])


def test_the_best_is_saved_also_across_a_resume(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scores, best = Scores(3.0, 1.0, 2.0, None, 0.5, 0.7), callbacks.SaveBest("best.h5", "score")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    trainer = Trainer(model(), 65)
    fit(trainer, scores, best, epochs=4)
    assert equal(load(tmp_path / "best.h5").state_dict(), scores.weights[1])
    trainer.save("run.h5")
    resumed, again = Trainer.resume("run.h5"), callbacks.SaveBest(tmp_path / "best.h5", "score")
    (tmp_path / "best.h5").unlink()
    fit(resumed, Scores(*scores.scores[:4], 2.0), again, epochs=5)
    assert not (tmp_path / "best.h5").exists()
    fit(trainer, scores, best, epochs=6)
    assert equal(load(tmp_path / "best.h5").state_dict(), scores.weights[4])


def test_a_file_that_cannot_be_written_is_found_at_once(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere" / "a.h5", 3):
        with pytest.raises(CheckpointError, match="path: expected a path that can be written, got"):
            callbacks.SaveBest(path, "score")


def test_the_best_of_validation_needs_some(tmp_path):
    for callback in (callbacks.EarlyStopping(), callbacks.SaveBest(tmp_path / "a.h5")):
        with pytest.raises(ValueError, match="monitor: 'validation' needs fit"):
            Trainer(model(), 65).fit(rows(), 1, callbacks=[callback], progress=False)


# --- progress ---------------------------------------------------------------------------------------------------------


class Logger:
    """Has `write` alone, as many loggers do."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text


class Broken(Logger):
    def write(self, text):
        raise RuntimeError("no handler")


class Terminal(Broken):
    def isatty(self):
        return True


def closed():
    file = io.StringIO()
    file.close()
    return file


@pytest.mark.parametrize("make", [lambda: None, Logger, Broken, Terminal, closed])
def test_standard_error_of_any_kind_does_not_end_training(make, monkeypatch):
    monkeypatch.setattr(sys, "stderr", make())
    trainer = Trainer(model(), 65)
    trainer.fit(rows(), 2)
    assert trainer.epoch == 2


def test_values_of_callbacks_are_shown_as_they_are():
    log = Logger()
    Trainer(model(), 65).fit(
        rows(), 4, callbacks=[Scores(None, 3, "good\n", np.float32(0.5)), callbacks.Progress(log)], progress=False
    )
    first, second, third, fourth = log.text.splitlines()
    assert "score" not in first
    assert "score 3  " in second
    assert r"score 'good\n'  " in third
    assert "score 0.5  " in fourth


def test_letters_that_a_file_does_not_have_are_escaped(tmp_path):
    class Named(callbacks.Callback):
        def on_epoch_end(self, trainer, row):
            row["g\u00fcte"] = 1.0

    with open(tmp_path / "log", "w", encoding="ascii") as file:
        Trainer(model(), 65).fit(rows(), 1, callbacks=[Named(), callbacks.Progress(file)], progress=False)
    assert r"g\xfcte 1  " in (tmp_path / "log").read_text()
