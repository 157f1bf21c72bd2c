"""Labels of a run: where they are, how many are kept, and what a model is told of them."""

import os

import h5py
import numpy as np
import pytest
import small_models
from small_runs import fails, table

from aaecore.app import cli, config, sources
from aaecore.datasets import load
from aaecore.errors import DataError
from aaecore.files.labels import load_alone
from aaecore.training.trainer import Trainer

for package in ("click", "rich", "matplotlib"):
    pytest.importorskip(package, reason="the command line needs the extra: pip install '.[app]'")

X = np.random.default_rng(0).random((60, 5)).round(3)
WORDS = np.array(["ox", "äpfel", "", "cat"])[np.random.default_rng(1).integers(0, 4, 60)]
NUMBERS = np.random.default_rng(2).choice([-1, 3, 50, 7], 60)
RunConfig = config.of(small_models.NamedLabels)


def write_csv(path, *columns, head):
    path.write_text("\n".join([head, *(",".join(map(str, row)) for row in zip(*columns, strict=True))]), "utf-8")


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The same rows with the same labels in every way that there is: by name what a run is told."""
    monkeypatch.chdir(tmp_path)
    columns = list(X.T)
    np.save("x.npy", X)
    np.save("words.npy", WORDS)
    np.save("bytes.npy", np.char.encode(WORDS, "utf-8"))
    np.save("numbers.npy", NUMBERS[:, None])
    with h5py.File("both.h5", "w") as file:
        file["x"], file["about/words"], file["numbers"] = X, np.char.encode(WORDS, "utf-8"), NUMBERS
    write_csv(tmp_path / "words.csv", *columns[:2], WORDS, *columns[2:], head="a,b, kind ,c,d,e")
    write_csv(tmp_path / "numbers.csv", *columns, [n if n >= 0 else "" for n in NUMBERS], head="a,b,c,d,e,kind")
    write_csv(tmp_path / "alone.csv", NUMBERS, head="kind")
    write_csv(tmp_path / "words_alone.csv", [word or '""' for word in WORDS], head="kind")
    return {
        "words": [
            ("x.npy", "words.npy"), ("x.npy", "bytes.npy"), ("both.h5", "about/words"), ("words.csv", "kind"),
            ("both.h5", "words.npy"), ("x.npy", "words_alone.csv"),
        ],
        "numbers": [
            ("x.npy", "numbers.npy"), ("both.h5", "numbers"), ("numbers.csv", "kind"), ("x.npy", "alone.csv"),
        ],
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["words", "numbers"])
def test_labels_are_found_wherever_they_are(files, kind):
    whole = {"words": WORDS, "numbers": NUMBERS}[kind]
    label = {row.tobytes(): y for row, y in zip(X.astype(np.float32), whole, strict=True)}
    known = ("cat", "ox", "äpfel") if kind == "words" else (3, 7, 50)
    for data, labels in files[kind]:
        source = sources.load(RunConfig(data=data, labels=labels))
        for rows, y in ((source.train, source.train_labels), (source.test, source.test_labels)):
            assert [label[row.tobytes()] for row in rows] == y.tolist(), (data, labels)
        assert (len(source.train), len(source.test)) == (54, 6)
        assert source.labels == known
        assert source.tells("classes") == 3


def test_idx_pairs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    digits = load("mnist-sample", dtype="uint8").test
    for name, values in (("x-idx3-ubyte", digits.x.reshape(-1, 28, 28)), ("y-idx1-ubyte", digits.y.astype(np.uint8))):
        head = bytes([0, 0, 8, values.ndim]) + b"".join(n.to_bytes(4, "big") for n in values.shape)
        (tmp_path / name).write_bytes(head + values.tobytes())
    source = sources.load(RunConfig(data="x-idx3-ubyte", labels="y-idx1-ubyte"))
    assert source.image_shape == (28, 28)
    assert (source.labels, source.tells("classes")) == (tuple(range(10)), 10)
    label = {x.tobytes(): y for x, y in zip(digits.x, digits.y, strict=True)}
    assert [label[x.tobytes()] for x in source.train] == source.train_labels.tolist()


def test_some_rows_keep_their_label(files):
    many, few, other = (
        sources.load(RunConfig(data="x.npy", labels="words.npy", labelled_rows=n, seed=seed)) for n, seed in
        ((None, 0), (6, 0), (6, 1))
    )  # fmt: skip
    kept = few.train_labels != ""
    assert np.array_equal(few.train, many.train)
    assert np.array_equal(few.train_labels[kept], many.train_labels[kept])
    assert [int((few.train_labels == name).sum()) for name in ("cat", "ox", "äpfel")] == [2, 2, 2]
    assert np.array_equal(few.test_labels, many.test_labels)
    assert not np.array_equal(few.train_labels != "", other.train_labels != "")
    digits = sources.load(RunConfig(data="mnist-sample", labelled_rows=100))
    assert np.bincount(digits.train_labels[digits.train_labels >= 0]).tolist() == [10] * 10
    assert digits.labels == tuple(range(10))


def test_a_run_learns_names_and_goes_on_with_them(files, tmp_path):
    run = ["train", "--model", "small_models:NamedLabels", "--data", "both.h5", "--labels", "about/words"]
    small = ["--labelled-rows", "9", "--batch-size", "20", "--labelled-batch-size", "12", "--no-plots"]
    assert cli.run([*run, *small, "--epochs", "3", "--folder", "whole"]) == 0
    assert cli.run([*run, *small, "--epochs", "2", "--folder", "part"]) == 0
    assert Trainer.resume("part/checkpoint.h5").model.labels == ("cat", "ox", "äpfel")
    assert config.read("part/config.toml").labels == "about/words"
    assert cli.run(["resume", "part", "--epochs", "3"]) == 0
    assert table("part") == table("whole")
    assert float(table("part")[0]["labelled"]) == (sources.load(RunConfig(data="x.npy", labels="words.npy"))
                                                    .test_labels != "").sum()  # fmt: skip


def test_rows_that_are_kept_apart_are_what_a_run_is_watched_by(files, capsys):
    """Those that choose when to stop are not those that are tested."""
    begin = ["train", "--model", "SemiSupervisedAAE", "--data", "x.npy", "--labels", "words.npy", "--folder", "run"]
    flags = ("--reconstruction", "mse", "--output", "linear", "--hidden", "4", "--labelled-batch-size", "5")
    assert cli.run([*begin, *flags, "--epochs", "2", "--validation-rows", "20", "--no-plots"]) == 0
    assert "wrong labels, validation data" in capsys.readouterr().out
    source, trainer = sources.load(config.read("run/config.toml")), Trainer.resume("run/checkpoint.h5")
    assert (len(source.validation), len(source.validation_labels)) == (20, 20)
    known = source.validation_labels != ""
    score = trainer.model.score(source.validation[known], source.validation_labels[known])
    assert trainer.history["error"][-1] == pytest.approx(1 - score)


def test_a_file_of_labels_is_found_from_anywhere(files, tmp_path, monkeypatch):
    run = ["train", "--model", "small_models:NamedLabels", "--data", "x.npy", "--labels", "words.npy", "--no-plots"]
    assert cli.run([*run, "--epochs", "1", "--folder", "run"]) == 0
    assert config.read("run/config.toml").labels == str(tmp_path / "words.npy")
    os.mkdir("elsewhere")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert cli.run(["resume", "../run", "--epochs", "2"]) == 0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (("x.npy", "y"), ValueError, r"^labels: expected a file of labels .*, or the name of a part .*, got 'y'"),
        (("both.h5", "y"), DataError, r"both.h5: no dataset 'y'; it holds the datasets 'about/words', 'loose',"),
        (("words.csv", "b c"), DataError, r"words.csv: expected one column 'b c' and others, got the first line \['a'"),
        (("words.csv", "b"), DataError, r"words.csv: line 2, column 3 \( kind \): expected a number, got"),
        (("x.npy", "none.npy"), DataError, "none.npy: no such file"),
        (("x.npy", "x.npy"), ValueError, r"^labels: expected shape \(60,\), one label .*, got shape \(60, 5\)"),
        (("x.npy", "short.npy"), ValueError, r"^labels: expected shape \(60,\), one label .*, got shape \(59,\)"),
        (("x.npy", "half.npy"), ValueError, r"^labels: expected whole numbers within int64, -1 for no label; 60 of 60"),
        (("both.h5", "loose"), DataError, r"'loose': expected numbers or strings of fixed length"),
        (("x.npy", "latin.npy"), DataError, r"latin.npy: not a readable file of UTF-8 text"),
        (("x.npy", None, 5), ValueError, "^labelled_rows: expected data with labels, got none; give --labels for"),
        (("x.npy", "words.npy", 2), ValueError, "^labelled_rows: expected an integer >= 3, the different labels of y"),
        (("x.npy", "words.npy", 57), ValueError, "^labelled_rows: y: expected 19 rows or more of every label, got"),
    ],
)  # fmt: skip
def test_labels_that_cannot_be_had(files, options, error, message):
    np.save("short.npy", WORDS[1:])
    np.save("half.npy", X[:, 0])
    np.save("latin.npy", np.char.encode(np.full(60, "ä"), "latin-1"))
    with h5py.File("both.h5", "a") as file:
        file.create_dataset("loose", data=WORDS.tolist(), dtype=h5py.string_dtype())
    given = dict(zip(("data", "labels", "labelled_rows"), options, strict=False))
    with pytest.raises(error, match=message):
        sources.load(RunConfig(**given))


def test_a_model_that_learns_from_labels_needs_some(files, capsys):
    run = ["train", "--model", "small_models:NamedLabels", "--data", "x.npy", "--folder", "run"]
    fails(capsys, run, "data: expected labels, since NamedLabels learns from some, got none; give --labels for those")
    fails(
        capsys,
        [*run, "--labels", "numbers.npy", "--classes", "2"],
        "y: expected at most 2 different labels, one for each class, got 3: [3, 7, 50]",
    )
    assert not os.path.exists("run")


@pytest.mark.parametrize(
    ("name", "options", "labels"),
    [
        ("SemiSupervisedAAE", ["--labelled-rows", "12"], ("cat", "ox", "äpfel")),
        ("SemiSupervisedAAE", ["--no-joint", "--optimizer", "sgd", "--lr", "1e-3"], ("cat", "ox", "äpfel")),
        ("ReductionAAE", ["--latent-dim", "3"], ("cat", "ox", "äpfel")),
        ("ReductionAAE", ["--no-labelled", "--classes", "2"], None),
    ],
)
def test_models_of_the_package_take_them(files, name, options, labels):
    run = ["train", "--model", name, "--data", "both.h5", "--labels", "about/words", "--folder", "run", "--no-plots"]
    unit = ["--reconstruction", "mse", "--hidden", "8", "--batch-size", "20", "--epochs", "2"]
    assert cli.run([*run, *unit, *options]) == 0
    model = Trainer.resume("run/checkpoint.h5").model
    assert model.labels == labels
    assert model.categories == (3 if labels else 2)
    expected = {*WORDS.tolist()} - {""} if labels else {0, 1}
    assert set(model.predict(X).tolist()) <= expected
    assert cli.run(["resume", "run", "--epochs", "3"]) == 0


def test_the_shape_of_images_is_told(files):
    np.savez("images.npz", x=np.random.default_rng(0).integers(0, 256, (60, 4, 5), np.uint8), y=WORDS)
    run = ["train", "--model", "SemiSupervisedAAE", "--data", "images.npz", "--folder", "run", "--no-plots"]
    assert cli.run([*run, "--hidden", "8", "--epochs", "1", "--consistency", "translation"]) == 0
    model = Trainer.resume("run/checkpoint.h5").model
    assert (tuple(model.image_shape), model.labels) == ((4, 5), ("cat", "ox", "äpfel"))
    source = sources.load(config.of(small_models.NamedLabels)(data="images.npz"))
    assert source._replace(image_shape=(4, 5, 3)).tells("image_shape") == (4, 5)
    assert source._replace(image_shape=None).tells("image_shape") is None


def test_labels_are_predicted(files, capsys):
    run = ["train", "--model", "SemiSupervisedAAE", "--data", "both.h5", "--folder", "run", "--no-plots"]
    assert cli.run([*run, "--hidden", "8", "--epochs", "2", "--labels", "about/words"]) == 0
    expected = Trainer.resume("run/checkpoint.h5").model.predict(X)
    assert cli.run(["predict", "run", "x.npy", "y.npy"]) == 0
    assert np.array_equal(np.load("y.npy"), expected)
    assert cli.run(["predict", "run/checkpoint.h5", "both.h5", "y.csv", "--dataset", "x"]) == 0
    with open("y.csv", encoding="utf-8") as file:
        assert file.read().split("\n") == ["label", *expected, ""]
    assert f"y.csv: 60 labels, {len(set(expected))} of them different" in capsys.readouterr().out
    fails(
        capsys, ["predict", "run", "x.npy", "y.h5"], "out: expected a file name that ends in .csv or .npy, got 'y.h5'"
    )
    fails(capsys, ["predict", "run", "x.npy", "x.npy"], "out: expected another file than what is read, got 'x.npy'")
    fails(capsys, ["predict", "run", "x.npy", "z.csv", "--dataset", "x"], "--dataset: expected a .h5 file as input")
    plain = ["train", "--data", "x.npy", "--latent-dim", "2", "--hidden", "8", "--epochs", "1", "--no-plots"]
    assert cli.run([*plain, "--folder", "plain"]) == 0
    capsys.readouterr()
    fails(
        capsys, ["predict", "plain", "x.npy", "z.csv"], "plain: expected a model that predicts labels, got one of AAE"
    )
    assert not os.path.exists("z.csv")


def test_a_run_reads_its_own_data_again(files, capsys):
    """Predicted labels and codes of the rows of a table with labels, and of an archive; what is predicted is read."""
    run = ["train", "--model", "SemiSupervisedAAE", "--no-plots", "--hidden", "8", "--epochs", "1"]
    assert cli.run([*run, "--data", "words.csv", "--labels", "kind", "--folder", "table"]) == 0
    model = Trainer.resume("table/checkpoint.h5").model
    for place in ("table", "table/checkpoint.h5"):
        assert cli.run(["predict", place, "words.csv", "y.csv"]) == 0
        assert load_alone("y.csv").tolist() == model.predict(X).tolist()
        assert cli.run(["encode", place, "words.csv", "z.npy"]) == 0
        assert np.array_equal(np.load("z.npy"), model.encode(X))
    assert cli.run([*run, "--data", "x.npy", "--labels", "y.csv", "--folder", "again"]) == 0
    np.savetxt("bare.csv", X, delimiter=",")
    for place in ("table", "again"):
        assert cli.run(["encode", place, "bare.csv", "z.npy"]) == 0
    capsys.readouterr()
    fails(capsys, ["encode", "again", "words.csv", "z.npy"], "column 3 ( kind ): expected a number, got ")

    pixels = np.random.default_rng(0).integers(0, 256, (60, 4, 5), np.uint8)
    np.savez("images.npz", x_train=pixels[:40], y_train=WORDS[:40], x_test=pixels[40:], y_test=WORDS[40:])
    assert cli.run([*run, "--data", "images.npz", "--folder", "images"]) == 0
    model = Trainer.resume("images/checkpoint.h5").model
    assert cli.run(["predict", "images", "images.npz", "y.npy"]) == 0
    assert cli.run(["encode", "images", "images.npz", "z.npy"]) == 0
    assert np.load("y.npy").tolist() == model.predict(pixels.reshape(60, 20)).tolist()
    assert np.array_equal(np.load("z.npy"), model.encode(pixels.reshape(60, 20)))
