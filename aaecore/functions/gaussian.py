"""Draws of a Gaussian posterior (Kingma & Welling 2014, arXiv 1312.6114)."""

from __future__ import annotations

from ..core.memory import Buffer
from .tensor import Function, Gradients, Tensor, check_tensors


class _GaussianSample(Function):
    def __init__(self, params: Tensor, eps: Buffer) -> None:
        super().__init__(params)
        self.params, self.eps = params, eps

    def forward(self) -> Tensor:
        z = self.params.backend.empty(self.eps.shape)
        self.params.backend.launch("gaussian_sample", (self.params.buffer, self.eps, z), self.eps.shape)
        return self.result(z)

    def backward(self, gradient: Buffer, gradients: Gradients) -> None:
        def params_gradient(dparams: Buffer, beta: int) -> None:
            buffers = (gradient, self.params.buffer, self.eps, dparams)
            self.params.backend.launch("gaussian_sample_backward", buffers, (*self.eps.shape, beta))

        gradients.contribute(self.params, params_gradient, before_activation=False)


def gaussian_sample(params: Tensor, eps: Buffer) -> Tensor:
    """mean + exp(log_variance / 2) eps with params = [mean | log_variance] (B, 2 Z) and eps (B, Z) standard normal.

    The re-parameterised draw of Kingma & Welling (2014), section 2.4.
    """
    check_tensors(params=params)
    if len(params.shape) != 2 or params.shape != (eps.shape[0], 2 * eps.shape[1]):
        raise ValueError(
            f"params: expected shape {(eps.shape[0], 2 * eps.shape[1])} for eps {eps.shape}, got {params.shape}"
        )
    return _GaussianSample(params, eps).forward()
