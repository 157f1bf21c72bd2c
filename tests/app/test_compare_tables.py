"""The table of a comparison."""

import pytest

from aaecore.app import compare, compare_tables

for package in ("click", "rich", "matplotlib"):
    pytest.importorskip(package, reason="the command line needs the extra: pip install '.[app]'")


def test_the_table_has_what_the_paper_has():
    line = {"model": "AAE", "seed": 0, "likelihood": 1.0, "error": 1.0, "samples": 10_000}
    assert [row["paper"] for row in compare._rows([line], "mnist")] == [340]
    assert [row["paper"] for row in compare._rows([{**line, "samples": 10_000_000}], "mnist")] == [427]
    assert [row["paper"] for row in compare._rows([line], "fashion-mnist")] == [None]


@pytest.mark.parametrize(("width", "tables"), [(80, 3), (120, 2), (300, 1)])
def test_a_terminal_shows_all_of_it(width, tables, monkeypatch, capsys):
    """Models that are too many for a line stand below each other, and nothing is cut or folded."""
    monkeypatch.setenv("COLUMNS", str(width))
    numbers = {"likelihood": 340.04, "deviation": 1.26, "error": 2.0, "samples": 10_000, "sigma": 0.16, "epochs": 30}
    names = ("AAE", "GAN", "GMMN", "GMMN+AE", "WAE", "DenoisingAE", "DBN", "VAE")
    compare_tables.show([{"model": name, "seeds": 3, **numbers} for name in names])
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= width
    assert out.count("likelihood") == tables
    assert out.count("340.0 ± 1.3 (± 2.0)") == len(names)
    shown = [cell.strip() for line in out.splitlines() for cell in line.split("┃")]
    assert [cell for cell in shown if cell in names] == list(names)


def test_a_cell_says_deviation_and_standard_error():
    row = {"model": "A", "seeds": 2, "likelihood": 340.04, "deviation": 1.26, "error": 2.0, "samples": 10_000}
    head, line = compare_tables.cells([row])
    assert dict(zip(head, line, strict=True))["likelihood"] == "340.0 ± 1.3 (± 2.0)"
    _, line = compare_tables.cells([{**row, "deviation": None}])
    assert line[head.index("likelihood")] == "340.0 (± 2.0)"
    assert "paper" not in head
    assert "paper" in compare_tables.cells([{**row, "paper": 340}])[0]
