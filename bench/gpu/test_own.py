"""Our own steps, on the emulated device."""

from __future__ import annotations

import numpy as np

from gpu import own


def test_the_goals_come_first():
    order = own.in_order(["e", "a", "g"])
    assert order[:6] == own.FIRST
    assert [mode for *_, mode in order[:6]] == [own.MODE] * 6
    assert len(order) == len(set(order)) == 3 * len(own.PRECISIONS) * len(own.MODES)
    assert order[6][0] == "e"


def test_every_mode_and_precision_is_timed(emulated, tiny, monkeypatch):
    monkeypatch.setattr(own, "BURST", 2)
    rows = list(own.own([tiny], "cuda", 60.0, 1e-4))
    assert {(row["precision"], row["mode"]) for row in rows} == {(p, m) for p in own.PRECISIONS for m in own.MODES}
    assert all(row["us"] > 0 and row["size"] == tiny for row in rows)


def test_no_time_is_given_for_losses_that_are_not_finite(tiny, monkeypatch):
    monkeypatch.setattr(own.np.random, "default_rng", lambda seed: Poisoned(np.random.PCG64(seed)))
    rows = list(own.own([tiny], "cpu", 60.0, 1e-4))
    assert rows
    assert not any("us" in row for row in rows)
    assert "losses of [nan" in rows[0]["why"]


class Poisoned(np.random.Generator):
    def random(self, shape, dtype):
        return np.full(shape, np.nan, dtype)


def test_what_has_no_time_is_left_out(tiny):
    rows = list(own.own([tiny], "cpu", -1.0))
    assert len(rows) == len(own.PRECISIONS) * len(own.MODES)
    assert {row["why"] for row in rows} == {"out of time"}
    assert rows[0]["left out"] == "our step at tiny, fp32, burst"
