"""A run of training: all that a resume needs of it, and all that a callback may see."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np

from ..models.model import Model
from ..optim import Optimizer, schedules
from .history import History


class Run(ABC):
    """A model, its optimizers by phase, the settings of a trainer, and how far training is."""

    def __init__(
        self, model: Model, optimizers: Mapping[str, Optimizer], *, batch_size: int, labelled_batch_size: int,
        schedule: schedules.Schedule, clip_norm: float | None, guard: bool, record: bool,
    ) -> None:  # fmt: skip
        self.model, self.backend = model, model.backend
        self.optimizers = dict(optimizers)
        self.phases = model.phases
        self.names = tuple(phase.name for phase in self.phases)
        self.batch_size, self.labelled_batch_size = batch_size, labelled_batch_size
        self.base_lr = {name: optimizer.lr for name, optimizer in self.optimizers.items()}
        self.schedule, self.clip_norm = schedule, clip_norm
        self.guard, self.record = guard, record
        self.history = History()
        self.steps = 0  # made so far
        self.epoch = 0  # completed so far
        self.epochs = 0  # asked for by the running fit
        self.position = 0  # rows of the current epoch used so far
        self.rows = 0  # rows of the data of the last fit
        self.sums = np.zeros(len(self.phases))  # of the current epoch: losses times rows
        self.validating = False  # whether the running fit measures something on validation data

    def __repr__(self) -> str:
        settings = f"batch_size={self.batch_size}, lr={self.base_lr}, schedule={self.schedule!r}"
        return f"{type(self).__name__}({type(self.model).__name__}, {settings}): epoch {self.epoch}, {self.steps} steps"

    @abstractmethod
    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes everything that a resume needs."""
