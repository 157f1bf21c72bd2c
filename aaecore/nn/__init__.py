"""Layers: fully connected networks on the kernels of this library."""

from .layers import MLP, Linear
from .module import Module
from .standardise import Standardise
from .state import load_state_dict, state_dict

__all__ = ["MLP", "Linear", "Module", "Standardise", "load_state_dict", "state_dict"]
