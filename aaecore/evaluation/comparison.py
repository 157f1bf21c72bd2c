"""What is compared of trained models: their likelihood, what they reconstruct, their codes, and samples' neighbours."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

import numpy as np

from ..arguments import count
from .likelihood import FEW, likelihood

VALIDATION = 10_000  # rows that choose the width of the window at most: a sixth of those there are
BLOCK = 4096  # rows that are compared at a time
Record = dict[str, Any]


def held_out(rows: int) -> int:
    """How many of the last training rows are for validation: 10,000, or a sixth of fewer than 60,000."""
    return min(VALIDATION, count("rows", rows, 2) // 6 or 1)


def floats(x: np.ndarray) -> np.ndarray:
    """Rows as float32; uint8 stands for 0..1."""
    return x * np.float32(1 / 255) if x.dtype == np.uint8 else np.asarray(x, np.float32)


def measure(
    model: Any, x: np.ndarray, y: np.ndarray | None, validation: np.ndarray, samples: int = FEW,
    sigma_samples: int = FEW, **settings: Any,
) -> Record:  # fmt: skip
    """What a trained model is worth on rows that it never saw.

    Args:
        model: one with `sample`.
        x: (N, features) test rows, float or uint8.
        y: (N,) their labels, for models whose reconstruction needs them.
        validation: (M, features) rows that choose the width of the window, neither trained on nor tested with.
        samples, sigma_samples: how many the likelihood is estimated from, and sigma chosen with.
        settings: of `likelihood`, such as checkpoint=.

    Returns:
        likelihood, error (the standard error of its mean over rows), sigma, samples, sigma_samples, parameters; of
        models that reconstruct `squared` (half the squared error of a row) and, with a loss of their own, `loss` and
        `reconstruction` (its name); of models with codes and a prior code_mean, code_std, prior_mean, prior_std.

    Raises:
        ValueError, TypeError: data that do not fit the model.
    """
    measured = likelihood(model, x, validation, samples=samples, sigma_samples=sigma_samples, **settings)
    found: Record = {
        "likelihood": measured.mean, "error": measured.error, "sigma": measured.sigma, "samples": samples,
        "sigma_samples": sigma_samples,
    }  # fmt: skip
    if hasattr(model, "reconstruct"):
        found["squared"] = _squared(model.reconstruct, x, y)
    if hasattr(model, "evaluate"):
        found["loss"] = float(model.evaluate(*_given(model.evaluate, x, y)))
        found["reconstruction"] = getattr(model, "reconstruction", None)
    found |= _codes(model, x)
    own = {name: p for name, p in model.parameters.items() if "_average." not in name}  # averages follow the others
    found["parameters"] = sum(p.buffer.size for p in own.values())
    return found


def _squared(reconstruct: Any, x: np.ndarray, y: np.ndarray | None) -> float:
    """Half the squared error of a row's reconstruction, on average."""
    total = 0.0
    for start in range(0, len(x), BLOCK):
        part = slice(start, start + BLOCK)
        made = reconstruct(*_given(reconstruct, x[part], None if y is None else y[part]))
        total += float(((floats(x[part]).astype(np.float64) - made) ** 2).sum())
    return total / 2 / len(x)


def _given(method: Any, x: np.ndarray, y: np.ndarray | None) -> tuple[np.ndarray, ...]:
    return (x, y) if y is not None and "y" in inspect.signature(method).parameters else (x,)


def _codes(model: Any, x: np.ndarray) -> Record:
    """Mean and standard deviation of codes and of the prior, over rows and then over features.

    Codes are draws of the posterior, where there is one: their distribution is what a prior is held against.
    """
    if not (hasattr(model, "encode") and "z" in model.priors()):
        return {}
    drawn = {"sample": True} if "sample" in inspect.signature(model.encode).parameters else {}
    found = {"code": model.encode(x, **drawn), "prior": model.sample_prior(VALIDATION)}
    return {
        f"{name}_{moment}": float(getattr(z.astype(np.float64), moment)(axis=0).mean())
        for name, z in found.items() for moment in ("mean", "std")
    }  # fmt: skip


def nearest(samples: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Which of the rows x (N, features), float or uint8, is nearest (Euclid) to each sample, (n,) int64.

    The first of several that are equally near.
    """
    found = np.empty(len(samples), np.int64)
    for i, sample in enumerate(samples.astype(np.float32)):
        parts = (floats(x[start : start + BLOCK]) - sample for start in range(0, len(x), BLOCK))
        found[i] = np.concatenate([(part * part).sum(axis=1, dtype=np.float64) for part in parts]).argmin()
    return found


def summary(results: Iterable[Mapping[str, Any]]) -> list[Record]:
    """A row for each model, of its results over seeds in order of appearance.

    Numbers are means over the seeds; `deviation` is that of the likelihoods (of n - 1), None of a single seed.
    """
    by_model: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        by_model.setdefault(result["model"], []).append(result)
    return [_summed(model, of_model) for model, of_model in by_model.items()]


def _summed(model: str, results: Sequence[Mapping[str, Any]]) -> Record:
    row: Record = {"model": model, "seeds": len(results)}
    for name, value in results[0].items():
        values = [result[name] for result in results if name in result]
        if name in ("model", "seed"):
            continue
        same = isinstance(value, str) or len(set(values)) == 1
        row[name] = value if same else fmean(values)
        if name == "likelihood":
            row["deviation"] = stdev(values) if len(values) > 1 else None
    return row
