"""Random numbers that are drawn on the device, the same on each: `Generator` is what `batch.rng` is."""

from .core.random import Generator

__all__ = ["Generator"]
