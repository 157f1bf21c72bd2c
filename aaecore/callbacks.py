"""What happens around training: the callback protocol, early stopping, keeping the best, progress."""

from .training.callbacks import Callback, EachEpoch, EarlyStopping, Progress, SaveBest

__all__ = ["Callback", "EachEpoch", "EarlyStopping", "Progress", "SaveBest"]
