"""Do the defaults hold the prior and reconstruct well, without tuning? Writes bench/results/defaults.csv and pictures.

    AAECORE_DATA=... python bench/defaults.py [--settings earlier slower now] [--seeds 0 1 2] [--cases NAME ...]
    python bench/defaults.py --tables          # docs/defaults.md and its pictures from what was measured

Every case is trained with nothing said but what it is about: data, prior, sizes, epochs. `AAECORE_DATA` is a folder of
data sets; cases whose data are missing are named and left out. One thread; progress goes to standard error.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from steps import PAPER

import aaecore
from aaecore import priors
from aaecore.models.health import Health
from aaecore.optim import Adam

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "defaults.csv"
CODES = HERE.parent / "build" / "defaults"  # codes of every run, for the pictures
CODES_SEEN = 1000  # that moments and discrepancy are measured on, of held-out rows if there are so many
FIELDS = [
    "case", "setting", "seed", "steps", "offset", "spread", "narrowest", "widest", "mmd", "reconstruction", "relative",
    "training_relative", "seconds",
]  # fmt: skip


class Case(NamedTuple):
    """What a user would say."""

    data: str
    prior: str
    latent_dim: int
    hidden: int
    batch: int
    epochs: int
    posterior: str = "deterministic"

    @property
    def name(self) -> str:
        kind = "" if self.posterior == "deterministic" else f" {self.posterior}"
        sizes = f"{self.prior} in {self.latent_dim}-D, width {self.hidden}, batch {self.batch}, {self.epochs} epochs"
        return f"{self.data}, {sizes}{kind}"


CASES = [Case(*row) for row in (
    ("mnist-sample", "normal 1", 8, 256, 100, 15), ("mnist-sample", "ring", 2, 256, 100, 40),
    ("mnist-sample", "normal 10", 32, 256, 1000, 60), ("mnist-sample", "uniform 1", 8, 256, 100, 15),
    ("mnist-sample", "mixture", 8, 256, 100, 20, "gaussian"),
    ("mnist-sample", "normal 5", 8, 256, 100, 20, "universal"),
    ("mnist-sample", "normal 1", 8, 256, 20, 5), ("mnist-sample", "normal 2", 8, 1000, 100, 12),
    ("mnist-sample", "normal 1", 2, 64, 20, 10, "universal"),
    ("mnist", "normal 5", 8, 256, 100, 10), ("fashion-mnist", "ring", 2, 256, 200, 8),
    ("fashion-mnist 5000", "swiss roll", 2, 256, 100, 30), ("fashion-mnist 5000", "normal 5", 8, 256, 100, 60),
    ("frey", "normal 2", 8, 256, 100, 60), ("frey", "normal 2", 2, 256, 100, 60),
    ("frey", "normal 2", 8, 256, 20, 100, "universal"),
    ("faces48", "normal 1", 64, 256, 100, 20), ("faces48", "normal 10", 2, 256, 100, 20, "gaussian"),
    ("svhn", "normal 1", 16, 256, 20, 30), ("svhn", "normal 1", 16, 256, 20, 150),
    ("svhn", "swiss roll", 2, 256, 50, 100),
    ("genes", "normal 1", 2, 256, 100, 40), ("genes", "normal 2", 32, 256, 200, 60),
    ("breast cancer", "normal 1", 4, 64, 50, 100), ("breast cancer", "normal 1", 2, 1000, 100, 40, "gaussian"),
    ("breast cancer", "normal 1", 4, 64, 20, 150), ("digits", "normal 5", 8, 128, 100, 60),
    ("digits", "normal 1", 16, 128, 50, 150, "gaussian"), ("digits in [0, 1]", "mixture", 8, 128, 100, 60, "universal"),
    ("wine", "normal 1", 2, 64, 20, 150), ("diabetes", "uniform 1", 2, 64, 50, 100, "gaussian"),
    ("noise", "normal 1", 8, 128, 100, 40), ("noise", "ring", 2, 64, 100, 100),
)]  # fmt: skip


# --- data -------------------------------------------------------------------------------------------------------------


@cache
def data(name: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Rows to train on, rows held out, and the reconstruction loss that they ask for.

    Raises:
        KeyError: AAECORE_DATA is not set. OSError, aaecore.DataError: the set is not there.
    """
    rng = np.random.default_rng(0)
    if name == "noise":
        x = rng.random((3000, 100), dtype=np.float32)
        return x[:2500], x[2500:], "bce"
    if name.startswith(("mnist", "fashion")):
        loaded, _, rows = name.partition(" ")
        found = aaecore.datasets.load(loaded)
        return found.train.x[: int(rows) if rows else None], found.test.x[:2000], "bce"
    if name in ("breast cancer", "digits", "wine", "diabetes", "digits in [0, 1]"):
        return _table(name, rng)
    folder = Path(os.environ["AAECORE_DATA"])
    if name == "genes":
        return _genes(folder / "scrna" / "pbmc3k_raw_csr.npz", rng)
    paths = {"frey": "faces/frey_28x20", "faces48": "faces/faces48", "svhn": "svhn-subset/svhn_subset_32x32"}
    with np.load(folder / f"{paths[name]}.npz") as file:
        sets = [file[key] for key in file.files if file[key].ndim > 1]
    x = np.concatenate([s.reshape(len(s), -1) for s in sets[: 2 if name == "svhn" else 1]])
    x = x[: 6000 if name == "faces48" else None].astype(np.float32) / 255
    x = x[rng.permutation(len(x))]
    held_out = min(1000, len(x) // 5)
    return x[held_out:], x[:held_out], "bce"


def _table(name: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, str]:
    from sklearn import datasets

    load = {
        "breast cancer": datasets.load_breast_cancer,
        "wine": datasets.load_wine,
        "diabetes": datasets.load_diabetes,
    }
    x = load.get(name, datasets.load_digits)().data.astype(np.float32)
    x, split = x[rng.permutation(len(x))], int(0.8 * len(x))
    if name == "digits in [0, 1]":
        return x[:split] / 16, x[split:] / 16, "bce"
    std = x[:split].std(axis=0)
    x = (x - x[:split].mean(axis=0)) / np.where(std > 1e-3, std, 1)
    return x[:split], x[split:], "mse"


def _genes(path: Path, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, str]:
    """The 1000 genes that differ most, of counts in ten thousand, ln(1 + count)."""
    with np.load(path) as file:
        values, columns, starts = file["data"], file["indices"], file["indptr"]
    counts = np.zeros((len(starts) - 1, int(columns.max()) + 1), np.float32)
    counts[np.repeat(np.arange(len(counts)), np.diff(starts)), columns] = values
    x = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)
    x = x[:, np.argsort(-x.var(axis=0))[:1000]][rng.permutation(len(x))]
    return x[500:].copy(), x[:500].copy(), "mse"


def prior_of(name: str) -> priors.Prior:
    """The prior of a case."""
    kind, _, size = name.partition(" ")
    if kind == "normal":
        return priors.Normal(float(size))
    if kind == "uniform":
        return priors.Uniform(-float(size), float(size))
    if kind == "mixture":  # six Gaussians in 8-D, some of which touch
        means = np.random.default_rng(5).normal(size=(6, 8)) * 3
        return priors.GaussianMixture(means.tolist(), [np.eye(8).tolist()] * 6)
    return priors.GaussianMixture.ring() if kind == "ring" else priors.SwissRoll()


# --- one run ----------------------------------------------------------------------------------------------------------


def trainer(case: Case, setting: str, seed: int) -> aaecore.Trainer:
    """As a user makes it: "now"; or with the defaults of earlier: in Python, and of the command line ("slower")."""
    x, _, loss = data(case.data)
    options = {} if setting == "now" else PAPER
    model = aaecore.AAE(
        x.shape[1], case.latent_dim, (case.hidden, case.hidden), case.posterior, prior_of(case.prior), loss, seed=seed,
        **options,
    )  # fmt: skip
    if setting == "now":
        return aaecore.Trainer(model, case.batch)
    if setting == "earlier":
        return aaecore.Trainer(model, case.batch, optimizers={p.name: partial(Adam, lr=1e-3) for p in model.phases})
    rates = {"reconstruction": 1e-3, "discriminator": 2e-4, "generator": 3e-4}
    schedule = aaecore.schedules.Cosine(case.epochs * -(-len(x) // case.batch), floor=0.05)
    return aaecore.Trainer(model, case.batch, rates, schedule=schedule)


@cache
def alone(case: Case) -> tuple[float, float]:
    """Losses on rows held out and trained on of the same autoencoder without the adversary."""
    x, held_out, loss = data(case.data)
    model = aaecore.AAE(
        x.shape[1], case.latent_dim, (case.hidden, case.hidden), case.posterior, None, loss, discriminator_hidden=(4,),
        **PAPER,
    )  # fmt: skip
    still = partial(Adam, lr=0.0)
    aaecore.Trainer(model, case.batch, optimizers={"discriminator": still, "generator": still}).fit(
        x, case.epochs, progress=False
    )
    return model.evaluate(held_out), model.evaluate(x[:1000])


def measured(case: Case, setting: str, seed: int) -> dict[str, object]:
    """A row of the results."""
    x, held_out, _ = data(case.data)
    begun = time.perf_counter()
    made = trainer(case, setting, seed)
    row: dict[str, object] = {"case": case.name, "setting": setting, "seed": seed}
    try:
        made.fit(x, case.epochs, progress=False)
    except FloatingPointError:
        return row
    seconds, model = time.perf_counter() - begun, made.model
    rows = held_out[:CODES_SEEN]
    codes, prior = model.encode(rows, sample=True), prior_of(case.prior)
    health = Health(*(prior.sample(len(rows), case.latent_dim, seed=s) for s in (1, 2, 3))).measure(codes)
    spread = codes.std(axis=0) / prior.sample(20_000, case.latent_dim).std(axis=0)
    CODES.mkdir(parents=True, exist_ok=True)
    np.savez(
        CODES / f"{CASES.index(case)}-{setting}-{seed}.npz", codes=codes, prior=prior.sample(2000, case.latent_dim)
    )
    of_held_out, of_training = model.evaluate(held_out), model.evaluate(x[:1000])
    values = {
        "steps": made.steps, "offset": health["code_offset"], "spread": spread.mean(), "narrowest": spread.min(),
        "widest": spread.max(), "mmd": health["code_mmd"], "reconstruction": of_held_out,
        "relative": of_held_out / alone(case)[0], "training_relative": of_training / alone(case)[1], "seconds": seconds,
    }  # fmt: skip
    return row | {name: f"{value:.4g}" for name, value in values.items()}


def done() -> list[dict[str, str]]:
    """What was measured so far, the latest row of each run."""
    if not RESULTS.exists():
        return []
    with RESULTS.open() as file:
        rows = list(csv.DictReader(file))
    return list({(row["case"], row["setting"], row["seed"]): row for row in rows}.values())


def runs(options: argparse.Namespace) -> Iterator[tuple[Case, str, int]]:
    """Those that are asked for and were not made; seeds last, so that an end in between leaves whole columns."""
    there = {(row["case"], row["setting"], row["seed"]) for row in done()}
    for seed in options.seeds:
        for setting in options.settings:
            for case in CASES:
                if options.cases and not any(text in case.name for text in options.cases):
                    continue
                if (case.name, setting, str(seed)) not in there:
                    yield case, setting, seed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", nargs="+", default=["earlier", "slower", "now"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--cases", nargs="+", default=[], help="parts of names")
    parser.add_argument("--tables", action="store_true")
    options = parser.parse_args()
    if options.tables:
        import defaults_report

        defaults_report.write(done())
        return
    aaecore.set_num_threads(1)
    for case, setting, seed in runs(options):
        try:
            data(case.data)
        except (KeyError, OSError, ImportError, aaecore.DataError) as error:
            print(f"left out: {case.name}: {error}", file=sys.stderr)
            continue
        row = measured(case, setting, seed)
        new = not RESULTS.exists()
        with RESULTS.open("a", newline="") as file:
            writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow(row)
        print(", ".join(f"{name} {value}" for name, value in row.items()), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
