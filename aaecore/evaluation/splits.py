"""Few labels out of many, as experiments with few labels want them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arguments import count as checked_count
from ..arguments import seed as checked_seed
from ..arguments import shown
from ..data.labels import NONE, UNNAMED, as_own, is_labelled
from ..data.order import epoch_order


def label_split(y: Any, count: int, seed: int = 0) -> np.ndarray:
    """The labels without all but `count` of them, which are spread over the classes as evenly as they can be.

    Which rows keep their label is a function of `y`, `count` and `seed` alone. Where the classes do not divide `count`,
    the seed says which of them have one more.

    Args:
        y: (N,) integers, where -1 is no label, or strings, where "" or None is none.
        count: how many labels to keep, one of each class at least.
        seed: of the choice.

    Returns:
        (N,) int64 or strings: the label, or -1 or "".

    Raises:
        ValueError, TypeError: bad labels, fewer labels than classes, or more than a class has.
    """
    own = as_own(y, "y")
    labelled = is_labelled(own)
    names, classes = np.unique(own[labelled], return_inverse=True)
    if not len(names):
        raise ValueError("y: expected a label for at least one row, got none")
    checked_count("count", count, len(names), expected=f"an integer >= {len(names)}, the different labels of y")
    each, more = divmod(count, len(names))
    wanted = np.full(len(names), each)
    wanted[epoch_order(len(names), checked_seed(seed), 1)[:more]] += 1
    have = np.bincount(classes)
    if (short := np.flatnonzero(have < wanted)).size:
        name, least = names[short[0]].item(), wanted[short[0]]
        raise ValueError(f"y: expected {least} rows or more of every label, got {have[short[0]]} of {shown(name)}")
    order = epoch_order(len(classes), seed, 0)
    by_class = order[np.argsort(classes[order], kind="stable")]  # of each class in the order of the seed
    rank = np.arange(len(by_class)) - np.repeat(have.cumsum() - have, have)
    kept = np.flatnonzero(labelled)[by_class[rank < np.repeat(wanted, have)]]
    split = np.full_like(own, NONE if own.dtype.kind == "i" else UNNAMED)
    split[kept] = own[kept]
    return split
