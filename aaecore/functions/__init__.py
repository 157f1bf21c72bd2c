"""Differentiable functions. Each launches its forward pass when called and its backward pass when walked.

Tensors are (batch, features). Losses are scalars of shape (1,): a sum over features and a mean over the batch, times
`weight`; the loss and its gradient are made in one pass.
"""

from .classes import add_heads, head_hinge, softmax, softmax_cross_entropy
from .divergences import gaussian_kl, gaussian_negative_entropy, mixture_nll, mmd
from .energies import add_bias, bernoulli, bias_product, inner_product, softplus_sum, transposed_product
from .gaussian import gaussian_sample
from .joining import concat, rows
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
from .noise import dropout, noisy, towards, translate
from .normalise import batch_norm, batch_norm_with
from .tensor import Function, Parameter, Tensor, backward

__all__ = [
    "Function", "Parameter", "Tensor", "above_entropy", "activation_code", "add_bias", "add_heads", "adversarial_bce",
    "backward", "batch_norm", "batch_norm_with", "bce_with_logits", "bernoulli", "bias_product", "combined", "concat",
    "difference_penalty", "dropout", "gaussian_kl", "gaussian_negative_entropy", "gaussian_sample",
    "half_squared_error", "head_hinge", "inner_product", "linear", "mixture_nll", "mmd", "noisy", "pull", "rows",
    "softmax", "softmax_cross_entropy", "softplus_sum", "towards", "translate", "transposed_product", "weighted",
]  # fmt: skip
