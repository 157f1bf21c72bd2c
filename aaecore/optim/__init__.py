"""Optimizers, clipping, and schedules of their learning rates."""

from .clipping import Clipped, clip_grad_norm
from .optimizers import OPTIMIZERS, SGD, Adam, Optimizer

__all__ = ["OPTIMIZERS", "SGD", "Adam", "Clipped", "Optimizer", "clip_grad_norm"]
