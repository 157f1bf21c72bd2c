"""Labels as users have them: strings and any integers, the classes that they stand for, and where that is kept."""

from __future__ import annotations

import copy
import pickle
import re

import h5py
import numpy as np
import pytest
from small_models import CLASSES, FewLabels, NamedLabels, RestLabels
from trained import D, StopAt, rows, same

import aaecore
from aaecore import CheckpointError, Trainer
from aaecore.data import labels
from aaecore.data.table import Column
from aaecore.files import checkpoint

NAMES = {
    "strings": np.array(["", "cow", "ant", "dog", "bee"]),
    "integers": np.array([-1, 7, -40, 2**62, 3]),
}  # of no label and four classes, in an order of their own
SORTED = {"strings": ("ant", "bee", "cow", "dog"), "integers": (-40, 3, 7, 2**62)}
PLACES = [2, 0, 3, 1]  # of the four among the sorted ones


@pytest.fixture
def x():
    return rows()


@pytest.fixture
def given():
    """Numbers 0 to 4 of 130 rows, of which 0 is no label."""
    return np.random.default_rng(1).integers(0, 5, 130)


def trainer(cls=NamedLabels, **options):
    return Trainer(cls(D, seed=5, **options), 32, labelled_batch_size=7)


@pytest.mark.parametrize("kind", NAMES)
def test_other_names_of_the_classes_train_the_same_model(x, given, kind):
    """The rows of class `PLACES[i]` are called NAMES[i + 1]; a model of plain classes is the account."""
    classes = np.array([-1, *PLACES])[given]
    named, plain = trainer(), trainer(FewLabels)
    named.fit(x, 3, y=NAMES[kind][given], validation=(x, NAMES[kind][given]), progress=False)
    plain.fit(x, 3, y=classes, validation=(x, classes), progress=False)
    assert same(named, plain)
    assert named.history["accuracy"] == plain.history["accuracy"]
    assert named.model.labels == SORTED[kind]
    assert {type(label) for label in named.model.labels} == {int if kind == "integers" else str}
    said, expected = named.model.names(x), plain.model.predict(x)
    assert said.tolist() == [SORTED[kind][i] for i in expected]
    assert said.dtype.kind == ("i" if kind == "integers" else "U")


@pytest.mark.parametrize("kind", NAMES)
def test_names_stay_in_files_and_copies(x, given, kind, tmp_path):
    y, path, alone = NAMES[kind][given], tmp_path / "run.h5", tmp_path / "model.h5"
    whole, part = trainer(), trainer()
    whole.fit(x, 3, y=y, progress=False)
    part.fit(x, 3, y=y, callbacks=[StopAt(8)], progress=False)
    part.save(path)
    part.model.save(alone)
    resumed = Trainer.resume(path)
    copies = [
        resumed.model, aaecore.load(path), aaecore.load(alone), copy.deepcopy(part.model),
        pickle.loads(pickle.dumps(part)).model, NamedLabels.from_config(part.model.config()),
    ]  # fmt: skip
    assert [made.labels for made in copies] == [SORTED[kind]] * 6
    assert np.array_equal(copies[1].names(x), part.model.names(x))
    resumed.fit(x, 3, y=y, progress=False)
    assert same(resumed, whole)
    fewer = y[y != NAMES[kind][2]]  # the first of the sorted ones: others keep their classes
    resumed.fit(x[: len(fewer)], 4, y=fewer, progress=False)
    assert resumed.model.labels == SORTED[kind]


def test_names_that_are_given_keep_their_order(x, given):
    order = ("dog", "cow", "bee", "ant")
    made = trainer(labels=order)
    made.fit(x, 1, y=NAMES["strings"][given], progress=False)
    assert made.model.labels == order
    assert set(made.model.names(x)) <= set(order)
    assert made.model.as_classes(["ant", "", "dog", None], "y").tolist() == [3, -1, 0, -1]
    assert made.model.own_labels(np.array([[3, -1], [0, 2]])).tolist() == [["ant", ""], ["dog", "bee"]]


def test_a_class_that_never_occurs_has_no_name(x):
    made = trainer()
    made.fit(x, 1, y=np.where(np.arange(130) % 2, 30, 20), progress=False)
    assert made.model.labels == (20, 30)
    assert made.model.own_labels(np.arange(-1, CLASSES)).tolist() == [-1, 20, 30, -1, -1]
    trainer().fit(x, 1, y=np.full(130, "all"), progress=False)


@pytest.mark.parametrize("y", [np.arange(130) % 3, np.arange(130) % 2 == 0, np.full(130, 3.0), [0] * 129 + [-1]])
def test_classes_are_their_own_names(x, y):
    made = trainer()
    made.fit(x, 1, y=y, validation=(x, np.full(130, 3)), progress=False)
    assert made.model.labels == (0, 1, 2, 3)
    assert made.model.names(x).tolist() == made.model.predict(x).tolist()
    with pytest.raises(ValueError, match=r"^y: expected classes from 0 to 3, or -1 for no label, got 17 at row 0$"):
        made.fit(x, 2, y=np.full(130, 17), progress=False)


def test_single_steps_give_no_names_but_classes_their_own(x):
    some = trainer()
    with pytest.raises(ValueError, match=r"^labelled\[1\]: expected integers, since NamedLabels has no labels yet, wh"):
        some.step(x, labelled=(x[:7], ["a"] * 7))
    with pytest.raises(ValueError, match=r"^labelled\[1\]: expected classes from 0 to 3, or -1 .*, got 9 at row 0"):
        some.step(x, labelled=(x[:7], [9] * 7))
    assert some.model.labels is None
    some.step(x, labelled=(x[:7], [2] * 7))
    with pytest.raises(ValueError, match=r"^y: expected classes from 0 to 3, .*, got 9 at row 0"):
        some.fit(x, 1, y=np.full(130, 9), progress=False)
    named, plain = trainer(labels=["a", "b"]), trainer(FewLabels)
    named.step(x, labelled=(x[:7], list("abbabba")))
    plain.step(x, labelled=(x[:7], [0, 1, 1, 0, 1, 1, 0]))
    assert same(named, plain)


def test_a_fit_that_fails_gives_no_names(x):
    made = trainer()
    with pytest.raises(ValueError, match=r"^x: expected values in"):
        made.fit(x + 2, 1, y=np.full(130, "a"), progress=False)
    with pytest.raises(ValueError, match="got only -1"):
        made.fit(x, 1, y=[None] * 130, progress=False)
    assert made.model.labels is None


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (["a"] * 129, ValueError, "y: expected shape (130,), one label for each row, got shape (129,)"),
        (["a", 1] * 65, TypeError, "y: expected integers, -1 for no label, or strings,"),
        ([None, 1] * 65, TypeError, "y: expected integers, -1 for no label, or strings,"),
        (["a", np.nan] * 65, TypeError, 'y: expected integers, -1 for no label, or strings, "" or None for no label, '
         "got both, such as nan at position 1"),
        ([1.5] * 130, ValueError, "y: expected whole numbers within int64, -1 for no label; 130 of 130 are not"),
        (np.full(130, np.nan), ValueError, "y: expected whole numbers within int64, -1 for no label; 130 of 130"),
        (np.eye(130, 4), ValueError, "y: expected shape (rows,), one label for each row, got shape (130, 4); of "
         "one-hot rows give y.argmax(axis=1)"),
        (np.full((130, 2), "a"), ValueError, "y: expected shape (rows,), one label for each row, got shape (130, 2)"),
        ("word", ValueError, "y: expected shape (rows,), one label for each row, got shape ()"),
        (list("abcde") * 26, ValueError, "y: expected at most 4 different labels, one for each class, got 5: ['a', 'b"),
        (range(10, 140), ValueError, "y: expected at most 4 different labels, one for each class, got 130: [10, 11"),
        (np.full(130, b"a"), TypeError, "y: expected an array of real numbers, got ndarray of dtype |S1"),
    ],
)  # fmt: skip
def test_labels_that_can_be_none(x, y, error, message):
    made = trainer()
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        made.fit(x, 1, y=y, progress=False)
    assert made.steps == 0
    assert made.model.labels is None


@pytest.mark.parametrize(
    ("known", "y", "message"),
    [
        (["a", "b"], ["a", "c"], "expected labels among ['a', 'b'], or \"\" for no label, got 'c' at row 1"),
        (["a", "b"], [0, 1], "expected labels among ['a', 'b'], or \"\" for no label, got 0 at row 0"),
        ([5, 6], [6, 7], "expected labels among [5, 6], or -1 for no label, got 7 at row 1"),
        ([5, 6], ["5", "6"], "expected labels among [5, 6], or -1 for no label, got '5' at row 0"),
        (None, ["a"], "expected integers, since NamedLabels has no labels yet, which fit or labels= gives it, got 'a'"),
    ],
)
def test_labels_that_the_model_does_not_know(x, known, y, message):
    with pytest.raises(ValueError, match=f"^validation.1.: {re.escape(message)}$"):
        NamedLabels(D, labels=known).as_classes(y, "validation[1]")
    made = trainer(labels=known)
    if known:
        with pytest.raises(ValueError, match=re.escape(message)):
            made.fit(x, 1, y=np.resize(np.array(y), 130), progress=False)


@pytest.mark.parametrize(
    "bad", [[], "ab", [1, "a"], [1, 1], ["a", ""], [-1, 2], [1.0, 2.0], [True, False], 3, [None, "a"], [2**63]]
)
def test_bad_labels_of_a_model_and_of_a_file(bad, tmp_path):
    expected = "^labels: expected different integers, none of them -1, or different strings, none of them empty, got "
    with pytest.raises(ValueError, match=expected):
        NamedLabels(D, labels=bad)
    path = tmp_path / "bad.h5"
    made = NamedLabels(D, labels=[7, 8])
    tensors = {f"model/{name}": value for name, value in made.state_dict().items()}
    checkpoint.write(path, tensors, {"model": made.config() | {"labels": bad}})
    with pytest.raises(CheckpointError, match=r"bad.h5: .*labels: expected different integers"):
        aaecore.load(path)


def test_more_labels_than_classes():
    with pytest.raises(
        ValueError, match=r"^labels: expected at most 4 \(classes\), got 5: \['a', 'b', 'c', 'd', 'e'\]"
    ):
        NamedLabels(D, labels=tuple("abcde"))
    with pytest.raises(AttributeError, match=r"^labels: a finished model keeps it"):
        NamedLabels(D).labels = ["a"]


# --- rows without a label as a class ----------------------------------------------------------------------------------


def test_rows_without_a_label_have_their_one_behind_the_classes(x, monkeypatch):
    seen, step = [], RestLabels.step

    def watched(self, batch):
        seen.append(batch.y.numpy())
        yield from step(self, batch)

    monkeypatch.setattr(RestLabels, "step", watched)
    made = Trainer(RestLabels(D), 4, record=False, guard=False)
    made.step(x[:4], y=[2, -1, 0, 3])
    assert np.array_equal(seen[0], np.eye(5)[[2, 4, 0, 3]])
    with pytest.raises(ValueError, match=r"^y: expected classes from 0 to 3, or -1 for no label, got 4 at row 1"):
        made.step(x[:4], y=[2, 4, 0, 3])
    made.fit(x[:4], 1, y=[2, -1, 0, 3], progress=False)
    assert np.array_equal(np.sort(seen[-1].argmax(1)), [0, 2, 3, 4])
    with pytest.raises(ValueError, match="y: expected a label for at least one row, since RestLabels learns from lab"):
        made.fit(x[:4], 2, y=[-1] * 4, progress=False)


@pytest.mark.parametrize(("features", "kind"), [(3, "numbers"), (3, "unit"), (1, "label")])
def test_only_labels_have_a_rest(features, kind):
    with pytest.raises(ValueError, match=r"^rest: expected False but for labels of one class or more"):
        Column(features, kind, rest=True)


# --- without a model --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "own"),
    [
        ([3, -1], [3, -1]), ((3.0, 4.0), [3, 4]), (np.array(["a", ""]), ["a", ""]), (["a", None], ["a", ""]),
        (np.array(["a", None], object), ["a", ""]), (np.array([True, False]), [1, 0]), ([None], [""]),
    ],
)  # fmt: skip
def test_as_own(y, own):
    made = labels.as_own(y, "y")
    assert made.tolist() == own
    assert made.dtype.kind == ("U" if isinstance(own[0], str) else "i")


def test_labels_in_a_file_are_not_read_before_their_size_is_known(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        y = file.create_dataset("y", (2**40,), "int64", chunks=(1024,))
        with pytest.raises(
            TypeError, match="y: expected an array in memory, got Dataset of 8796093022208 bytes in a f"
        ):
            labels.as_own(y, "y")


def test_masked_strings_are_refused():
    with pytest.raises(TypeError, match=r"^y: expected a plain array, got a masked one"):
        labels.as_own(np.ma.masked_array(["a", "b"], [True, False]), "y")


def test_columns_of_pandas():
    pandas = pytest.importorskip("pandas", reason="labels from pandas: pip install pandas")
    words = pandas.Series(["b", "a", None])
    assert labels.as_own(words.fillna(""), "y").tolist() == ["b", "a", ""]
    assert labels.as_own(words.astype("category").cat.codes, "y").tolist() == [1, 0, -1]
    assert labels.as_own(pandas.Series(["b", "a"], dtype="category"), "y").tolist() == ["b", "a"]
    with pytest.raises(TypeError, match="got both, such as nan at position 2"):
        labels.as_own(pandas.Series(["b", "a", None], dtype="str"), "y")
