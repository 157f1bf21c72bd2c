"""Layers: fully connected networks on the kernels of this library."""

from .layers import MLP, Linear
from .state import load_state_dict, state_dict

__all__ = ["MLP", "Linear", "load_state_dict", "state_dict"]
