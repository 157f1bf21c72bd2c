"""Goals on different GPUs, the short table at its longest, and all tables."""

from __future__ import annotations

import json
from itertools import product

import pytest

from gpu import goals, table
from gpu.commands import PHASES
from gpu.document import document

STEP = {"size": "a", "least": 1.0, "most": 9.0, "rounds": 5}
PAIR = {"size": "a", "ours": "aaecore:burst", "clean": 5, "pairs": 5, "decided": True}
H100 = goals.Machine(3.0e12, 790e12)


def ceilings(machine: goals.Machine) -> list[dict]:
    return [
        {"what": names[0], "value": value, "unit": unit}
        for names, value, unit in zip(goals.MEASURED, machine, ("B/s", "FLOP/s"), strict=True)
    ]


def record():
    return {
        "machine": {"gpu": "NVIDIA X", "capability": [9, 0], "multiprocessors": 132, "cores": 16, "L2 MB": 50},
        "versions": {"torch": "2.11.0", "python": "3.12.3"}, "date": "today", "seconds": 500.0, "lacking": {},
        "phases": {
            "tests": {"status": "failed", "seconds": 99.0, "message": "status 1: 1 failed"},
            "steps": {"status": "ok", "seconds": 150.0, "message": ""},
        },
        "results": {
            "tests": [
                {"not passed": "FAILED tests/test_x.py::test_y"},
                {"tests": "tests", "summary": "1 failed, 8000 passed"},
            ],
            "own": [
                {"size": "a", "precision": "tf32", "mode": "burst", "us": 105.0},
                {"size": "a", "precision": "bf16", "mode": "burst", "us": 99.0},
            ],
            "timeline": [
                {"size": "a", "precision": "fp32", "step us": 130.0, "chain us": 100.0, "gaps us": 30.0,
                 "kernel us": 160.0, "nodes": 2, "chain nodes": 1, "steps": 1},
                {"size": "a", "precision": "fp32", "node": 0, "kernel": "first", "grid": "8x32", "start": 0.0,
                 "us": 9.5, "wait": 0.0, "chain": True},
                {"size": "a", "precision": "fp32", "node": 1, "kernel": "second", "grid": "8x32", "start": 12.0,
                 "us": 3.5, "wait": 2.5, "chain": False},
            ],
            "switches": [
                {"size": "a", "precision": "fp32", "switch": "linear", "us": 130.0, "base us": 120.0, "ratio": 1.083,
                 "same bits": False},
            ],
            "steps": [
                {**STEP, "who": "aaecore:eager", "us": 700.0},
                {**STEP, "who": "aaecore:burst", "us": 120.0},
                {**STEP, "who": "aaecore:burst:bf16", "us": 115.0}, {**STEP, "who": "torch:eager", "us": 1200.0},
                {**PAIR, "peer": "torch:eager", "ratio": 10.0}, {**PAIR, "peer": "jax:scan", "ratio": 2.4},
                {**PAIR, "peer": "torch:graph:bf16", "ratio": 2.6}, {**PAIR, "peer": "jax:scan:bf16", "ratio": 3.0},
                {**PAIR, "size": "g", "peer": "torch:compile:bf16", "ratio": 2.1},
                {**PAIR, "size": "g", "peer": "torch:graph:bf16", "ratio": 0.6},
                {"left out": "jax:jit at a", "why": "out of memory"},
            ],
            "kernels": [
                {"size": "a", "precision": "fp32", "kernel": "copy 1x1", "dims": "N4", "count": 3, "us": 2.0,
                 "bound us": 1.0, "fraction": 0.5},
                {"size": "a", "precision": "fp32", "step us": 120.0, "one by one us": 136.0},
            ],
            "ceilings": ceilings(goals.H200),
            "epochs": [
                {"precision": "fp32", "epoch": 0.09, "first": 3.0}, {"what": "5 runs, fp32", "same bits": False},
            ],
        },
    }  # fmt: skip


# --- goals ------------------------------------------------------------------------------------------------------------


def test_goals_are_met_missed_or_not_measured():
    met = [(row["goal of"], row["met"]) for row in table.goals(record())]
    assert met == [
        ("step 784-1000-1000-8, batch 100, fp32, us", True),
        ("step 784-1000-1000-8, batch 100, tf32, us", True),  # measured alone
        ("step 784-1000-1000-8, batch 100, bf16, us", False),  # beside the peers, which counts more than alone
        ("step 784-1000-1000-8, batch 4096, bf16, us", None),
        ("step 784-1000-1000-8, batch 4096, tf32, us", None),
        ("PyTorch eager / ours at a, fp32", True),
        ("JAX scan / ours at a, fp32", False),
        ("best peer / ours at a, tf32", None),
        ("PyTorch graph bf16 / ours at a, bf16", True),
        ("PyTorch graph bf16 / ours at g, bf16", False),  # compile, which takes longer, would meet both
        ("PyTorch graph bf16 / ours at g, bf16", False),
        ("epoch of 60000 rows, fp32, s", True),
    ]


def test_what_a_step_must_move_and_compute():
    size = goals.GPU_SIZES["a"]
    assert goals.step_traffic(size) == pytest.approx(213e6, rel=0.01)
    assert goals.floor(size, "fp32", goals.H200) == pytest.approx(49.5, rel=0.01)  # memory
    large = goals.GPU_SIZES["g"]
    assert goals.floor(large, "bf16", goals.H200) == pytest.approx(235, rel=0.01)  # arithmetic
    assert goals.floor(large, "tf32", goals.H200) == pytest.approx(2 * goals.floor(large, "bf16", goals.H200))


def test_limits_are_an_h200s_where_nothing_is_known_and_grow_with_the_floor():
    (ours, drivers), (product,) = goals.MEASURED
    assert goals.machine_of({}) == (goals.H200, [ours, product])
    assert goals.machine_of({ours: 3.0e12}) == (H100, [product])
    assert goals.machine_of({ours: 2.7e12, drivers: 3.0e12}) == (H100, [product]), "the better one"
    assert goals.machine_of({drivers: 5.0e12, product: 999e12}) == (goals.H200, []), "no limit becomes stricter"
    assert {key: goals.step_limit(*key, goals.H200) for key in goals.STEP} == goals.STEP
    assert goals.step_limit("a", "fp32", H100) == pytest.approx(130 + 213e6 / 3.0e6 - 213e6 / 4.3e6, rel=0.01)
    assert goals.step_limit("g", "bf16", H100) == 450.0, "the arithmetic counts there, which is the same"
    assert goals.step_limit("g", "bf16", goals.Machine(3e12, 395e12)) == pytest.approx(450 + 235, rel=0.01)


def test_limits_come_from_the_ceilings_of_the_same_run():
    made = record()
    limits = {}
    for name, rows in {"H200": ceilings(goals.H200), "H100": ceilings(H100), "none": []}.items():
        made["results"]["ceilings"] = rows
        limits[name] = table.goals(made)[0]["goal"]
        assert ("an H200's copy beyond the cache and matrix product bf16" in table.short(made)) == (name == "none")
    assert limits["H100"] > 150 > limits["H200"] == limits["none"] == 130.0


# --- tables -----------------------------------------------------------------------------------------------------------


def test_the_short_table_says_what_matters():
    text = table.short(record())
    assert "1 failed, 8000 passed" in text
    assert "  FAILED tests/test_x.py::test_y" in text
    assert "own a, us eager/replay/burst: tf32 -/-/105, bf16 -/-/99" in text
    assert "us a: fp32 eager/graph/burst 700/-/120, bf16 115, eager 10.0x, best fp32 2.4x, best bf16 2.6x" in text
    assert "timeline a fp32: step us 130, chain us 100, gaps us 30, kernel us 160, 2 nodes, 1 on the chain" in text
    assert text.index("gap 0.0 before 0 first (chain)") < text.index("gap 2.5 before 1 second"), "the chain first"
    assert text.index("9.5 us 0 first (chain)") < text.index("3.5 us 1 second")
    assert "copy beyond the cache 4.3 TB/s; matrix product bf16 790 TFLOP/s" in text
    assert "a fp32 linear 1.083" in text
    assert "NOT THE SAME BITS: 5 runs, fp32, linear, fp32" in text
    assert table.short({**record(), "results": {}, "phases": {}}).startswith("NVIDIA X")


def full_record():
    """One of everything that a run can find, and more of it than a table has place for."""
    made = record()
    sizes, precisions = list(goals.GPU_SIZES), table.PRECISIONS
    text = "x" * 300
    made["phases"] = {p.name: {"status": "out of time", "seconds": 99.9, "message": text} for p in PHASES}
    made |= {"lacking": {"extension": text}, "wheels": [text], "background": text}
    results, labels = made["results"], [{"size": s, "precision": p} for s, p in product(sizes, precisions)]
    results["tests"] = [{"not passed": f"FAILED {text}"}] * 50
    results["own"] = [{**each, "mode": mode, "us": 1234.5} for each in labels for mode in table.MODES]
    graph, node = results["timeline"][:2]
    results["timeline"] = [{**graph, **each} for each in labels]
    results["timeline"] += [{**node, **each, "node": n, "kernel": text[:60]} for each in labels for n in range(47)]
    results["switches"] = [{**each, "switch": f"switch {n}", "ratio": 1.0} for each in labels for n in range(9)]
    results["ceilings"] += [{"what": f"node {n} {text[:40]}", "value": 1e-6, "unit": "s"} for n in range(60)]
    steps = results["steps"]
    results["steps"] = [{**row, "size": size} for size in sizes for row in steps if "size" in row]
    results["epochs"] = [
        {"precision": p, "epoch": 0.09, "what": f"{text} {p}", "same bits": False} for p in ("fp32", "bf16")
    ]
    return made


def test_the_short_table_fits_what_is_seen_of_it():
    lines = table.short(full_record()).splitlines()
    assert 50 <= len(lines) <= 60
    assert max(len(line) for line in lines) <= table.WIDTH
    assert len("\n".join(lines)) < 12000
    head, parts = ("NVIDIA X", "suite ", "  FAILED"), ("step 784", "own a", "timeline a", "  gap", "ceilings", "us a")
    assert [start for start in head + parts if not any(line.startswith(start) for line in lines)] == []


def test_a_dry_run_quotes_no_time():
    made = record() | {"dry": True}
    for text in (table.short(made), document(made)):
        assert "DRY RUN" in text
        assert not {"120", "700", "105", "4.3", "790", "1.083"} & set(text.replace("/", " ").replace(",", " ").split())


def test_all_tables():
    text = document(record())
    assert "| PyTorch eager | 1200 |" in text
    assert "| copy beyond the cache | 4.3e12 | B/s |" in text
    assert "| copy 1x1 | N4 | 3 | 2 | 1 | 0.50 |" in text
    assert "| jax:jit at a | out of memory |" in text
    assert "| 1 | second | 8x32 | 12 | 3.5 | 2.5 | False |" in text
    assert "| a | tf32 | burst | 105 |" in text
    assert "The step's graph takes 120 us, 136 with a kernel for each call." in text
    assert json.loads(json.dumps(record())) == record()
