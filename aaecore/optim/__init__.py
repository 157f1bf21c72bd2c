"""Optimizers, clipping, and schedules of their learning rates."""

from .clipping import Clipped, clip_grad_norm
from .optimizers import OPTIMIZERS, SGD, Adam, Optimizer, Passive

__all__ = ["OPTIMIZERS", "SGD", "Adam", "Clipped", "Optimizer", "Passive", "clip_grad_norm"]
