"""Tables of numbers as text: what is read, and one error that names the line and the column."""

import csv

import numpy as np
import pytest

from aaecore import data
from aaecore.errors import DataError
from aaecore.files.csv import load_csv_labels, load_csv_without, load_labelled_csv, save_csv


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,2\n3,4\n", [[1, 2], [3, 4]]),
        ("a,b\n1,2\n3,4", [[1, 2], [3, 4]]),
        ("\ufeffa,b\r\n1,2\r\n", [[1, 2]]),
        ('"a, b",c\n"1",2e3\n', [[1, 2000]]),
        ('"two\nlines",c\n1,2\n', [[1, 2]]),
        ("1;2\n", [[1, 2]]),
        ("a b\tc\n1\t-2\n", [[1, -2]]),
        ("\n\n1\n\n2\n", [[1], [2]]),
        ("# no comment,b\n1,2\n", [[1, 2]]),
        (" 1 , 2 \n", [[1, 2]]),
        ("0,1,2\n2.5,3,4\n", [[2.5, 3, 4]]),  # pandas' names of columns that have none
        ("0\t1\t2\n7\t8\t9\n", [[7, 8, 9]]),
        ("0,1,2\n", [[0, 1, 2]]),
        ("0,1\n1,1\n", [[0, 1], [1, 1]]),  # two columns of bits
        ("0\n1\n", [[0], [1]]),
        ("0,1.0\n2,3\n", [[0, 1], [2, 3]]),
        ("a,,c\n1,2,3\n", [[1, 2, 3]]),
    ],
)
def test_load_csv(tmp_path, text, expected):
    (tmp_path / "a.csv").write_text(text, encoding="utf-8", newline="")
    np.testing.assert_array_equal(data.load_csv(tmp_path / "a.csv"), np.array(expected, float), strict=True)


def test_load_csv_reads_what_was_saved(tmp_path):
    x = np.random.default_rng(0).standard_normal((50, 7))
    np.savetxt(tmp_path / "a.csv", x, "%.17g", delimiter="|", header="a|b|c|d|e|f|g", comments="")
    np.testing.assert_array_equal(data.load_csv(tmp_path / "a.csv", delimiter="|"), x, strict=True)


@pytest.mark.parametrize(
    ("delimiter", "error"),
    [(3, TypeError), (b";", TypeError), ("", ValueError), ("::", ValueError), ("\n", ValueError), ('"', ValueError)],
)
def test_a_delimiter_is_one_character(tmp_path, delimiter, error):
    (tmp_path / "a.csv").write_text("1,2\n")
    with pytest.raises(error, match=r"^delimiter: expected one character, .* got "):
        data.load_csv(tmp_path / "a.csv", delimiter=delimiter)


def test_what_pandas_writes(tmp_path):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed: pip install pandas")
    x = np.random.default_rng(0).standard_normal((20, 3))
    for columns in (None, list("abc")):
        frame = pandas.DataFrame(x, columns=columns)
        frame.to_csv(tmp_path / "a.csv", index=False)
        np.testing.assert_array_equal(data.load_csv(tmp_path / "a.csv"), x, strict=True)
        for part in (frame, frame.iloc[:, :1]):
            part.to_csv(tmp_path / "b.csv")
            with pytest.raises(DataError, match="row numbers"):
                data.load_csv(tmp_path / "b.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "is empty: expected rows of numbers"),
        (b"\n \n", "is empty: expected rows of numbers"),
        (b"a,b\n", "holds names of columns but no rows"),
        (b"1,2\n3,x\n", "line 2, column 2: expected a number, got 'x'"),
        (b"age,size\n1,2\n\n3,\n", r"line 4, column 2 \(size\): expected a number, got ''"),
        (b"age,size\n1,2\n3\n", "line 3: expected 2 columns, got 1"),
        (b"age,size\n1,2,3\n", "line 2: expected 2 columns, got 3"),
        (b"1,5;2,5\n1;2\n", "line 1, column 1: expected a number, got '1,5'"),
        (b"gene,2019,2020\n1,2,3\n", "line 1, column 1: expected a number, got 'gene'"),
        (b",2\n3,4\n", "line 1, column 1: expected a number, got ''"),
        (b",a,b\n0,1,2\n", "line 1, column 1: expected a name, got ''; row numbers[?] write it with index=False"),
        (b"\n;0;1\n0;1;2\n", "line 2, column 1: expected a name, got ''; row numbers[?]"),
        (b"1_0,2\n3,4\n", "line 1, column 1: expected a number, got '1_0'"),
        (b"a\n1\n# 2\n", r"line 3, column 1 \(a\): expected a number, got '# 2'"),
        (b"a,b\n\xff,2\n", "not a readable CSV file: .*codec"),
        (b"\x89HDF\r\n\x1a\n\0\0", "expected|not a readable CSV|holds names"),
        (b'a\n"1\n' + b"x" * 200_000, "line|not a readable CSV file: field larger|expected"),
    ],
)
def test_load_csv_refuses(tmp_path, text, message):
    (tmp_path / "a.csv").write_bytes(text)
    with pytest.raises(DataError, match=message) as info:
        data.load_csv(tmp_path / "a.csv")
    assert str(info.value).startswith(f"{tmp_path / 'a.csv'}: ")
    with pytest.raises(DataError, match="no such file"):
        data.load_csv(tmp_path / "none.csv")


# --- a column of labels -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "table", "labels"),
    [
        ("a,k,b\n1,x,2\n3, y z ,4\n", [[1, 2], [3, 4]], ["x", "y z"]),
        ("k;a\n\nx;1\n\n;2\n", [[1], [2]], ["x", ""]),
        ("a,k\n1,3\n2,\n3,5.0\n", [[1], [2], [3]], [3, -1, 5]),
        ("a,k\n1,3\n2,nan\n3,NA\n4, NaN \n5,-7\n", [[1], [2], [3], [4], [5]], [3, -1, -1, -1, -7]),
        ("a,k\n1,9007199254740993\n2,9007199254740992\n", [[1], [2]], [2**53 + 1, 2**53]),
        ("a,k\n1,9223372036854775807\n2,1e3\n", [[1], [2]], [2**63 - 1, 1000]),
        ("a,k\n1,3\n2,2.5\n3,x\n4,NA\n", [[1], [2], [3], [4]], ["3", "2.5", "x", ""]),
        ("a,k\n1,\n2,NA\n", [[1], [2]], [-1, -1]),
        ('0,"k",2\n1,"a,b",2\n', [[1, 2]], ["a,b"]),
        ('a,k\n1,"two\nlines"\n', [[1]], ["two\nlines"]),
        ("a,k\n1,#x\n", [[1]], ["#x"]),
    ],
)
def test_a_column_of_labels(tmp_path, text, table, labels):
    (tmp_path / "a.csv").write_text(text, encoding="utf-8", newline="")
    rows, y = load_labelled_csv(tmp_path / "a.csv", "k")
    np.testing.assert_array_equal(rows, np.array(table, float), strict=True)
    assert y.tolist() == labels
    assert y.dtype.kind == ("U" if isinstance(labels[0], str) else "i")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", r"expected one column 'k' and others, got the first line \['a', 'b'\]"),
        ("k,k\n1,2\n", "expected one column 'k' and others"),
        ("k\n1\n", "expected one column 'k' and others"),
        ("a,k\n", "holds names of columns but no rows"),
        ("a,k\nx,y\n", r"line 2, column 1 \(a\): expected a number, got 'x'"),
        ("a,k\n1,y\n2,y,3\n", "line 3: expected 2 columns, got 3"),
        ("a,k\n1,y\n2\n", "line 3: expected 2 columns, got 1"),
        ("a,k\n1,3\n\n2,2.5\n", r"line 4, column 2 \(k\): expected a whole number within int64, .*, got '2.5'"),
        ("a,k\n1,1.5\n2,2.5\n", r"line 2, column 2 \(k\): expected a whole number .*, got '1.5'"),
        ("a,k\n1,\n2,inf\n", r"line 3, column 2 \(k\): expected a whole number .*, got 'inf'"),
        ("a,k\n1,9007199254740993.0\n", r"line 2, column 2 \(k\): expected a whole number"),
        ("a,k\n1,9223372036854775808\n", r"line 2, column 2 \(k\): expected a whole number within int64"),
        (f"a,k\n1,{'9' * 5000}\n", r"line 2, column 2 \(k\): expected a whole number within int64"),
        ("", "is empty"),
    ],
)
def test_a_column_of_labels_that_cannot_be_read(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=f"a.csv: {message}"):
        load_labelled_csv(tmp_path / "a.csv", "k")


@pytest.mark.parametrize(
    "values",
    [
        np.array([3, -1, 2**62, 2**53 + 1, 2**53]),
        np.array(["a", "", 'b "c", d', "two\nlines", "ä", "a;b\tc"]),
        np.array(["", "a"]),
    ],
)
def test_a_column_is_read_as_it_was_written(tmp_path, values):
    save_csv(tmp_path / "a.csv", "k", values)
    with open(tmp_path / "a.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [["k"], *([str(value)] for value in values)]
    np.testing.assert_array_equal(load_csv_labels(tmp_path / "a.csv"), values, strict=True)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("kind\ncat\nox\n", ["cat", "ox"]),
        ("\ufeffkind\r\ncat\r\n\r\nox\r\n\r\n", ["cat", "ox"]),
        ('kind\ncat\n""\nNA\n', ["cat", "", ""]),
        ("3\n7.0\n", [3, 7]),
        ("kind\n3\nnan\n", [3, -1]),
        ('""\n3\n', [-1, 3]),
        ('kind\n"a,b"\na;b\n', ["a,b", "a;b"]),
    ],
)
def test_labels_alone(tmp_path, text, labels):
    (tmp_path / "a.csv").write_text(text, encoding="utf-8", newline="")
    y = load_csv_labels(tmp_path / "a.csv")
    assert y.tolist() == labels
    assert y.dtype.kind == ("U" if isinstance(labels[0], str) else "i")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty: expected labels"),
        ("kind\n\n", "holds a name but no labels"),
        ("a,b\n1,2\n", "line 1: expected one column, of labels, got 2"),
        ("kind\ncat\nox,cow\n", "line 3: expected one column, of labels, got 2"),
        ("kind\n1\n2.5\n", r"line 3, column 1 \(kind\): expected a whole number .*, got '2.5'"),
        ("1\n2.5\n", "line 2, column 1: expected a whole number .*, got '2.5'"),
        ('kind\n"' + "x" * 200_000, "not a readable CSV file: field larger"),
    ],
)
def test_labels_alone_that_cannot_be_read(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=f"a.csv: {message}"):
        load_csv_labels(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a, k ,b\n1,x,2\n3,,4\n", [[1, 2], [3, 4]]),
        ("a,b\n1,2\n", [[1, 2]]),
        ("1,2\n3,4\n", [[1, 2], [3, 4]]),
        ("k\n1\n", [[1]]),
    ],
)
def test_a_table_without_its_labels(tmp_path, text, expected):
    (tmp_path / "a.csv").write_text(text)
    np.testing.assert_array_equal(load_csv_without(tmp_path / "a.csv", "k"), np.array(expected, float), strict=True)
    (tmp_path / "a.csv").write_text("a,k\n")
    with pytest.raises(DataError, match="holds names of columns but no rows"):
        load_csv_without(tmp_path / "a.csv", "k")
