"""The posteriors q(z|x) of section 2 of the paper."""

from .models.posteriors import POSTERIORS, Deterministic, Gaussian, Posterior, Universal

__all__ = ["POSTERIORS", "Deterministic", "Gaussian", "Posterior", "Universal"]
