"""Differentiable functions. Each launches its forward pass when called and its backward pass when walked.

Tensors are (batch, features). Losses are scalars of shape (1,): a sum over features and a mean over the batch, times
`weight`; the loss and its gradient are made in one pass.
"""

from .divergences import gaussian_kl, gaussian_negative_entropy, mixture_nll
from .gaussian import gaussian_sample
from .joining import concat
from .linear import activation_code, linear
from .losses import (
    above_entropy,
    adversarial_bce,
    bce_with_logits,
    combined,
    difference_penalty,
    half_squared_error,
    pull,
    weighted,
)  # fmt: skip
from .noise import noisy
from .tensor import Function, Parameter, Tensor, backward

__all__ = [
    "Function", "Parameter", "Tensor", "above_entropy", "activation_code", "adversarial_bce", "backward",
    "bce_with_logits", "combined", "concat", "difference_penalty", "gaussian_kl", "gaussian_negative_entropy",
    "gaussian_sample", "half_squared_error", "linear", "mixture_nll", "noisy", "pull", "weighted",
]  # fmt: skip
