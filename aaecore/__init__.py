"""Adversarial autoencoders with hand-written kernels and no deep-learning framework. Start at `aaecore.AAE`."""

from ._version import __version__
from .backend import get_backend

__all__ = ["__version__", "get_backend"]
