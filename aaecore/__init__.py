"""Adversarial autoencoders with hand-written kernels and no deep-learning framework.

Start at `AAE` (the model) and `Trainer`; `models` has what a model of one's own is made of, and `functions`, `nn`,
`optim` and `get_backend` are the layer below.
"""

from . import callbacks, data, datasets, functions, models, nn, optim, posteriors, priors, schedules
from ._info import show_config
from ._version import __version__
from .backends.cpu import get_num_threads, set_num_threads
from .backends.devices import get_backend
from .errors import CaptureError, CheckpointError, DataError, DeviceError
from .models import AAE, VAE
from .training.trainer import Trainer, load

__all__ = [
    "AAE", "VAE", "CaptureError", "CheckpointError", "DataError", "DeviceError", "Trainer", "__version__", "callbacks",
    "data", "datasets", "functions", "get_backend", "get_num_threads", "load", "models", "nn", "optim", "posteriors",
    "priors", "schedules", "set_num_threads", "show_config",
]  # fmt: skip
