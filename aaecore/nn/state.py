"""The values of tensors by name, in and out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ..arguments import reals
from ..functions.tensor import Tensor


def state_dict(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Host copies of named parameters, or other tensors."""
    return {name: p.numpy() for name, p in tensors.items()}


def load_state_dict(
    tensors: Mapping[str, Tensor], values: Mapping[str, np.ndarray],
    check: Callable[[Mapping[str, np.ndarray]], None] = lambda arrays: None,
) -> None:  # fmt: skip
    """Copies `values` into the tensors of the same names; nothing is changed unless everything fits.

    `check` may refuse the arrays that they are, by an exception.

    Raises:
        ValueError: names are missing or unknown, a shape differs, or a value is not finite. TypeError: no mapping, or
            something in it is no array of real numbers.
    """
    if not isinstance(values, Mapping):
        raise TypeError(f"state_dict: expected a mapping of names to arrays, got {type(values).__name__}")
    missing, unknown = sorted(set(tensors) - set(values)), sorted(set(values) - set(tensors))
    if missing or unknown:
        raise ValueError(f"state_dict: missing {missing or 'nothing'}, unknown {unknown or 'nothing'}")
    arrays = {}
    with np.errstate(over="ignore"):  # what does not fit becomes infinite and is found below
        for name, value in values.items():
            arrays[name] = reals(f"state_dict: {name}", value).astype(tensors[name].backend.real, copy=False)
    for name, array in arrays.items():
        if array.shape != tensors[name].shape:
            raise ValueError(f"state_dict: {name}: expected shape {tensors[name].shape}, got {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"state_dict: {name}: expected real numbers that are finite in {array.dtype}, got others")
    check(arrays)
    for name, array in arrays.items():
        tensors[name].backend.upload(tensors[name].buffer, array)
