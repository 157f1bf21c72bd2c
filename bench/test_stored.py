"""Tables, pictures and files of what was measured."""

from __future__ import annotations

import json
import sys

import goals
import pytest
import report
import run
from sizes import parse_size

ROW = {
    "size": "d", "peer": "torch:eager", "ratio": 2.0, "clean": 9, "pairs": 9, "decided": True, "ms": 1.0, "our ms": 0.5,
    "rss": 300, "our rss": 30, "goal": 1.0, "met": True,
}  # fmt: skip


def record(**results):
    described = {"slug": "amd-zen4-2c-avx512", "cores": 2, "cpu": "CPU", "instruction set": "v4", "commit": "abc"}
    settings = {"threads": 2, "growth": [64, 128]}
    head = {"machine": described, "versions": {"torch": "2.15"}, "settings": settings, "date": "today"}
    return {**head, "results": results}


def test_every_part_has_a_table_and_says_what_it_does():
    assert set(report.SECTIONS) == set(run.PARTS)
    assert all(part.__doc__ for part in run.PARTS.values())


def test_the_table_of_steps():
    undecided = ROW | {"peer": "jax:scan:bf16", "decided": False, "clean": 2, "met": None}
    text = report.markdown(record(steps=[ROW, undecided]))
    assert "| d 64-128-128-4, batch 64 | PyTorch eager | 2.00, 9 of 9 | 1 at least: met | 1, 0.5 | 300, 30 |" in text
    assert "| JAX scan bf16 | NOT DECIDED (2.00), 2 of 9 | 1 at least: not decided |" in text
    missed = report.markdown(record(steps=[goals.judged(ROW | {"ratio": 0.9}, 0.9, 1.0, at_least=True)]))
    assert "0.90, 9 of 9 | 1 at least: MISSED" in missed


def test_the_summary_has_sizes_down_and_peers_across():
    rows = [ROW, ROW | {"peer": "jax:jit", "ratio": 12.345, "decided": False}, ROW | {"size": "e", "ratio": 35.7}]
    rows.append(ROW | {"peer": "jax:jit:bf16", "ratio": 4.0})
    lines = report.summary(record(steps=rows)).splitlines()
    assert lines[:4] == [
        "| networks, batch | PyTorch eager | JAX jit |",
        "|---|---|---|",
        "| 64-128-128-4, batch 64 | 2 | 12.3? |",
        "| 30-32-32-2, batch 32 | 35.7 | - |",
    ]
    half = report.summary(record(steps=rows), bf16=True)
    assert half.startswith("| networks, batch | JAX jit bf16 |\n|---|---|\n| 64-128-128-4, batch 64 | 4 |\n\nHow many")


def test_blocks_are_renewed_and_nothing_else(tmp_path):
    page, results = tmp_path / "page.md", tmp_path / "bench" / "results"
    page.write_text("before\n<!-- bench: all -->\nold 1.23\n<!-- bench: end -->\nafter\n")
    made = record(steps=[ROW])
    report.renew(page, made, results)
    text = page.read_text()
    assert text.startswith("before\n<!-- bench: all -->\n2 cores of ")
    assert text.endswith("\n<!-- bench: end -->\nafter\n")
    assert "](bench/results/amd-zen4-2c-avx512-steps.svg)\n" in text
    assert "1.23" not in text
    report.renew(page, made, results)
    assert page.read_text() == text
    page.write_text("<!-- bench: summary -->\n<!-- bench: end -->\n<!-- bench: bf16 -->\n<!-- bench: end -->\n")
    report.renew(page, record(steps=[ROW, ROW | {"peer": "jax:jit:bf16"}]), results)
    tables = [line for line in page.read_text().splitlines() if line.startswith("| networks")]
    assert tables == ["| networks, batch | PyTorch eager |", "| networks, batch | JAX jit bf16 |"]
    page.write_text("no block\n")
    with pytest.raises(ValueError, match="expected a block"):
        report.renew(page, made, results)


def test_a_result_is_written_with_its_tables_and_pictures(tmp_path):
    point = {
        **parse_size("784-256-8-64")._asdict(),
        "GFLOP/s of the probe": 118.0,
        "ms": 2.0,
        "us per sample": 31.0,
        "memory": {"formula": 10**7, "measured": 10**7, "met": True},
    }
    rows = [{**ROW, **point, "along": along, "size": "784-256-8-64"} for along in ("batch", "hidden")]
    written = report.write(made := record(steps=[ROW], growth=rows), tmp_path)
    assert [p.name.removeprefix("amd-zen4-2c-avx512") for p in written] == [".json", ".md", "-steps.svg", "-growth.svg"]
    assert json.loads(written[0].read_text()) == made
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in written}
    first = written[2].read_bytes()
    report.write(made, tmp_path)
    assert written[2].read_bytes() == first


@pytest.mark.parametrize(
    ("arguments", "whole"),
    [
        ([], True),
        (["--quick"], False),
        (["--sizes", "d"], False),
        (["--parts", "steps"], False),
        (["--rounds", "9"], False),
    ],
)
def test_only_a_whole_run_replaces_the_stored_one(arguments, whole, tmp_path, monkeypatch, capsys):
    measured = []
    monkeypatch.setattr(run, "measure", lambda settings, parts: measured.append(parts) or record() | {"minutes": 1})
    monkeypatch.setattr(run, "RESULTS", tmp_path / "whole")
    monkeypatch.setattr(run, "PARTIAL", tmp_path / "partial")
    monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
    run.main()
    assert (tmp_path / "whole" / "amd-zen4-2c-avx512.json").exists() is whole
    assert (tmp_path / "partial" / "amd-zen4-2c-avx512.json").exists() is not whole
    assert measured[0][0] == "equal"  # before any time


def test_parts_are_stored_beside_what_was_measured_before(tmp_path, monkeypatch, capsys):
    """Of the check of equal work the sizes; tables say when later parts were measured."""
    old = record(equal=[{"size": "a"}, {"size": "semi"}], steps=[ROW], wheel=[{"bytes": 1}]) | {"minutes": 30}
    path = tmp_path / "amd-zen4-2c-avx512.json"
    path.write_text(json.dumps(old))
    new = record(equal=[{"size": "semi", "peer": "jax:jit", "equal": True, "errors": [[1, 1]], "our errors": [[1, 1]]}])
    new |= {"date": "tomorrow", "minutes": 1}
    new["results"]["models"] = [{**ROW, "size": "semi"}]
    monkeypatch.setattr(run, "measure", lambda settings, parts: new)
    monkeypatch.setattr(run, "stored", lambda: path)
    monkeypatch.setattr(run, "RESULTS", tmp_path)
    monkeypatch.setattr(run, "PARTIAL", tmp_path)
    written = []
    monkeypatch.setattr(run.report, "write", lambda made, folder: written.append(made) or [path, path])
    monkeypatch.setattr(sys, "argv", ["run.py", "--parts", "models", "--store"])
    run.main()
    (made,) = written
    assert list(made["results"]) == ["equal", "steps", "models", "wheel"]
    assert [row["size"] for row in made["results"]["equal"]] == ["a", "semi"]
    assert made["results"]["equal"][1]["peer"] == "jax:jit"
    assert made["date"] == "today"
    text = report.markdown({**made, "results": {"models": made["results"]["models"]}})
    assert "Commit abc, tomorrow." in text
    assert "semi-supervised in phases: 784-1000-1000, y 10 + z 10, batch 100 + 100, noise 0.3" in text


def test_a_part_without_rows_stays_as_it_was():
    """As those of peers that are not installed."""
    old = record(equal=[{"size": "a"}], steps=[ROW], models=[{**ROW, "size": "semi"}])
    new = record(equal=[], models=[], wheel=[{"bytes": 1}])
    made = run.renewed(old, new)
    assert made["results"] == {**old["results"], "wheel": [{"bytes": 1}]}
    assert list(made["later"]) == ["wheel"]


def test_the_suite_is_not_stored_alone(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run.py", "--store", "--parts", "wheel", "suite"])
    monkeypatch.setattr(run, "measure", lambda settings, parts: pytest.fail("measured"))
    with pytest.raises(SystemExit):
        run.main()
    assert "--store: expected parts other than suite" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--parts", "steps", "--sizes", "a"], ["--parts", "steps", "--quick"]])
def test_only_whole_parts_are_stored(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run.py", "--store", *arguments])
    with pytest.raises(SystemExit):
        run.main()
    assert "--store: expected --parts, measured as in a whole run" in capsys.readouterr().err
