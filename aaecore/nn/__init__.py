"""Layers: fully connected networks on the kernels of this library."""

from .batchnorm import BatchNorm
from .boltzmann import Beginning, Boltzmann, Chains
from .layers import INITS, MLP, NORMS, Linear
from .module import Module
from .standardise import Standardise, StandardiseEach, Units
from .state import load_state_dict, state_dict

__all__ = [
    "INITS", "MLP", "NORMS", "BatchNorm", "Beginning", "Boltzmann", "Chains", "Linear", "Module", "Standardise",
    "StandardiseEach", "Units", "load_state_dict", "state_dict",
]  # fmt: skip
