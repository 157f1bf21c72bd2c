"""What happens around training: the callback protocol, early stopping, keeping the best, progress."""

from .training.callbacks import Callback, EarlyStopping, Progress, SaveBest

__all__ = ["Callback", "EarlyStopping", "Progress", "SaveBest"]
