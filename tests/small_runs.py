"""Small runs of the command line: what they are given, and how tests look at what they say and leave."""

import csv

from aaecore.app import cli

ROWS = ("--hidden", "16", "--batch-size", "20", "--latent-dim", "3", "--epochs", "2")
SMALL = (*ROWS, "--two-dimensional", "--two-dimensional-epochs", "1")


def fails(capsys, arguments, message, status=1):
    """The command prints nothing but one line on standard error; click's usage errors have more of them."""
    assert cli.run([str(a) for a in arguments]) == status
    out, err = capsys.readouterr()
    assert message in err
    assert out == ""
    if status == 1:
        assert err.startswith("aaecore: ")
        assert err.count("\n") == 1


def content(folder, name):
    with open(f"{folder}/{name}", "rb") as file:
        return file.read()


def table(folder):
    """The rows of the history by column."""
    with open(f"{folder}/history.csv", newline="") as file:
        return list(csv.DictReader(file))
