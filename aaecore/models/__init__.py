"""Models: what the paper trains, and what it compares with."""

from .aae import AAE
from .model import Model
from .vae import VAE

__all__ = ["AAE", "DEFAULT", "VAE"]

DEFAULT: type[Model] = AAE  # what the command line trains unless it is told otherwise
