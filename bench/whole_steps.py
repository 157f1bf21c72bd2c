"""Whether one step of every model is PyTorch's in float64: its losses, all weights, Adam's moments.

    python whole_steps.py        a line for each model: how far apart they are at the most, on "reference" and on "cpu"

Both start at equal weights, moments, rows and draws: the initial ones, and those after five steps of ours. PyTorch's
half is `peers/torch_models.py`. It is looked for as by `run.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import work_steps
from alternate import Spec, versions
from gpu.servers import Server
from protocol import Stepped, idle, read_stepped, write_state
from works import Work

STATES = (0, 5)  # steps of training before the one that is compared
EAGER = Spec("torch", "eager")
_SMALL = {"inputs": 12, "hidden": 16, "classes": 3, "latent": 4, "batch": 10}
_LABELS, _PLANE = {**_SMALL, "labelled": 7}, {**_SMALL, "latent": 2}
CHECKED = [
    Work(kind, joint, **sizes)
    for joint in (False, True)
    for kind, sizes in (
        ("semi-supervised", {**_LABELS, "noise": 0.3}),
        ("semi-supervised", {**_LABELS, "noise": 0.3, "dropout": 0.2, "batch_norm": True}),
        ("clustering", {**_SMALL, "dropout": 0.2, "batch_norm": True}),
        ("reduction", {**_PLANE, "labelled": 7, "noise": 0.3}),
        ("reduction", {**_PLANE, "classes": 5}),
        ("label-informed", {**_PLANE, "noise": 0.3}),
        ("supervised", {**_SMALL, "dropout": 0.2, "batch_norm": True}),
    )
] + [
    Work("gan", False, **_SMALL), Work("gmmn", False, **_SMALL), Work("wae", True, **_SMALL, noise=0.3),
    Work("denoising", True, **_SMALL, noise=0.3, dropout=0.2),
]  # fmt: skip


class Apart(NamedTuple):
    """The largest differences of two steps, by the largest number of the array in which they are."""

    weights: float
    moments: float
    losses: float


def apart(ours: Stepped, theirs: Stepped) -> Apart:
    """Of what a step left on either side, but for biases before batch norm: see `protocol.idle`."""
    left_out = idle(ours.weights)
    assert ours.weights.keys() - left_out == theirs.weights.keys()
    assert {k: t.keys() - left_out for k, t in ours.moments.items()} == {k: t.keys() for k, t in theirs.moments.items()}
    return Apart(
        max(_apart(ours.weights[n], b) for n, b in theirs.weights.items()),
        max(
            _apart(a, b)
            for phase, table in theirs.moments.items()
            for n, both in table.items()
            for a, b in zip(ours.moments[phase][n], both, strict=True)
        ),
        max(abs(a - b) / abs(b) for a, b in zip(ours.losses, theirs.losses, strict=True)),
    )


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(np.float64) - b).max() / np.abs(b).max())


@contextmanager
def pytorch(threads: int = 1) -> Iterator[Server]:
    """A process that makes PyTorch's steps."""
    server = Server([EAGER], CHECKED[0], threads, "cpu")
    try:
        yield server
    finally:
        server.close()


def against(server: Server, work: Work, device: str) -> list[Apart]:
    """How far our steps on a device are from PyTorch's in float64, by state."""
    with TemporaryDirectory() as folder:
        made = {count: both for count, *both in work_steps.trained(work, STATES, device=device)}
        for count, (state, _) in made.items():
            write_state(Path(folder) / f"state-{count}.npz", state)
        server.check(work, folder, ["eager:fp64"])
        return [apart(ours, read_stepped(Path(folder) / f"eager-fp64-{n}.npz")) for n, (_, ours) in made.items()]


def main() -> None:
    if "torch" not in versions():
        raise SystemExit("PyTorch: not installed; set AAECORE_PEERS_PYTHON to a Python that has it")
    print("largest relative difference of weights, of Adam's moments and of losses")
    with pytorch() as server:
        for work in CHECKED:
            worst = {d: Apart(*map(max, zip(*against(server, work, d), strict=True))) for d in ("reference", "cpu")}
            print(work, *(f"{d} {' '.join(f'{v:.0e}' for v in apart)}" for d, apart in worst.items()), sep="; ")


if __name__ == "__main__":
    main()
