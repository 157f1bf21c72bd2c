"""What happens around training: the callback protocol, early stopping, progress."""

from .training.callbacks import Callback, EarlyStopping, Progress

__all__ = ["Callback", "EarlyStopping", "Progress"]
