"""Adversarial autoencoders with hand-written kernels and no deep-learning framework.

Start at `AAE` (the model) and `Trainer`; `models` has what a model of one's own is made of, and `functions` (Tensor,
Parameter, Function, backward, the losses), `nn`, `optim`, `random` and `get_backend` are the layer below. `extras` has
what fits into other libraries; it is imported by name.
"""

from . import callbacks, data, datasets, evaluation, functions, models, nn, optim, posteriors, priors, random, schedules
from ._info import show_config
from ._version import __version__
from .backends.cpu import get_num_threads, set_num_threads
from .backends.devices import get_backend
from .errors import CaptureError, CheckpointError, DataError, DeviceError
from .functions import Tensor
from .models import (
    AAE,
    DBM,
    DBN,
    GAN,
    GMMN,
    RBM,
    VAE,
    WAE,
    ClusteringAAE,
    DenoisingAE,
    LabelInformedAAE,
    ReductionAAE,
    SemiSupervisedAAE,
    SupervisedAAE,
)
from .training.history import History
from .training.trainer import Trainer, load

__all__ = [
    "AAE", "DBM", "DBN", "GAN", "GMMN", "RBM", "VAE", "WAE", "CaptureError", "CheckpointError", "ClusteringAAE",
    "DataError", "DenoisingAE", "DeviceError", "History", "LabelInformedAAE", "ReductionAAE", "SemiSupervisedAAE",
    "SupervisedAAE", "Tensor", "Trainer", "__version__", "callbacks", "data", "datasets", "evaluation", "functions",
    "get_backend", "get_num_threads", "load", "models", "nn", "optim", "posteriors", "priors", "random", "schedules",
    "set_num_threads", "show_config",
]  # fmt: skip
