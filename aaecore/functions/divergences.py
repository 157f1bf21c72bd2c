"""How far codes or samples are from what they should be: divergences, entropy, density, discrepancy of two samples."""

from __future__ import annotations

import math

from ..arguments import number
from ..core.memory import Buffer
from .losses import Loss
from .tensor import Tensor, check_tensors

LEAST_STD = 1e-18  # its inverse square is a number of float32


def _gaussian_kl(params: Tensor, mean: float, precision: float, offset: float, weight: float) -> Tensor:
    check_tensors(params=params)
    if len(params.shape) != 2 or params.shape[1] % 2:
        raise ValueError(f"params: expected shape (batch, 2 latent_dim), got {params.shape}")
    dims = (params.shape[0], params.shape[1] // 2)
    return Loss("gaussian_kl", params, (), dims, (mean, precision, offset, weight)).forward()


def gaussian_kl(params: Tensor, mean: float = 0.0, std: float = 1.0, weight: float = 1.0) -> Tensor:
    """KL divergence of N(m, v) from N(mean, std^2) with params = [m | ln v] (B, 2 Z); Kingma & Welling (2014), app. B.

    Raises:
        ValueError: params of another shape, or a std below 1e-18. TypeError: a std that is no number.
    """
    std = number("std", std, LEAST_STD)
    return _gaussian_kl(params, mean, std**-2, math.log(std), weight)


def gaussian_negative_entropy(params: Tensor, weight: float = 1.0) -> Tensor:
    """Minus the entropy of N(m, v), that is -1/2 (1 + ln 2 pi v) for each feature, with params = [m | ln v] (B, 2 Z).

    Raises:
        ValueError: params of another shape.
    """
    return _gaussian_kl(params, 0.0, 0.0, -math.log(2 * math.pi) / 2, weight)


def mixture_nll(z: Tensor, tables: tuple[Buffer, Buffer, Buffer], weight: float = 1.0) -> Tensor:
    """Minus the log-density at z (B, Z) of a mixture of Gaussians, whose `density_tables` are given.

    Raises:
        ValueError: codes of another size than the mixture's.
    """
    check_tensors(z=z)
    components, size = tables[1].shape
    if len(z.shape) != 2 or z.shape[1] != size:
        raise ValueError(f"z: expected shape (batch, {size}), got {z.shape}")
    return Loss("mixture_nll", z, tables, (*z.shape, components), (weight,)).forward()


def mmd(x: Tensor, y: Tensor, gammas: Buffer, weight: float = 1.0) -> Tensor:
    """weight times the squared maximum mean discrepancy of rows x (B, N) and rows y (M, N); only x gets a gradient.

    The kernel is a sum of Gaussians, k(a, b) = sum over s of exp(-gammas_s |a - b|^2) with gammas (K,), each
    1 / (2 width^2). The estimate is the biased one, a mean over all pairs (Gretton et al. 2012, equation 5), which is
    never below 0.

    Raises:
        ValueError: sizes that do not fit. TypeError: no Tensor.
    """
    check_tensors(x=x, y=y)
    for name, shape in (("x", x.shape), ("y", y.shape)):
        if len(shape) != 2 or 0 in shape:
            raise ValueError(f"{name}: expected shape (batch, features), neither of them 0, got {shape}")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"y: expected as many features as x {x.shape}, got {y.shape}")
    if len(gammas.shape) != 1 or gammas.size == 0:
        raise ValueError(f"gammas: expected shape (kernels,), at least one, got {gammas.shape}")
    dims = (x.shape[0], y.shape[0], x.shape[1], gammas.size)
    return Loss("mmd", x, (y.buffer, gammas), dims, (weight,)).forward()
