"""Rows of features that are images."""

from __future__ import annotations

import math
from collections.abc import Sequence


def is_image(shape: Sequence[int]) -> bool:
    """Whether the shape is (height, width), (height, width, 1) or (height, width, 3)."""
    return len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))


def check_image_shape(shape: Sequence[int], features: int) -> None:
    """Raises ValueError unless rows of so many features can be seen as images of the shape."""
    if not is_image(shape) or math.prod(shape) != features:
        raise ValueError(f"image_shape: expected height, width (and 1 or 3) of {features} values, got {tuple(shape)}")
