"""Models: what the paper trains, and what it compares with."""

from .aae import AAE

DEFAULT = AAE  # what the command line trains unless it is told otherwise
