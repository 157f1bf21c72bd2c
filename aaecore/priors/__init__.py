"""Priors p(z): anything that can be sampled. The built-in ones are drawn on the device, a callable on the host.

`as_prior` accepts a `Prior` or a callable ``f(n, rng) -> (n, latent_dim)`` with rng a `numpy.random.Generator`.
"""

from .built_in import Categorical, GaussianMixture, Hypersphere, Normal, SwissRoll, Uniform
from .choose import CATEGORICAL, KINDS, PRIOR, as_prior, from_config
from .host import CallablePrior, HostSampler
from .prior import PRIORS, Draw, DrawLike, Draws, Prior

__all__ = [
    "CATEGORICAL", "KINDS", "PRIOR", "PRIORS", "CallablePrior", "Categorical", "Draw", "DrawLike", "Draws",
    "GaussianMixture", "HostSampler", "Hypersphere", "Normal", "Prior", "SwissRoll", "Uniform", "as_prior",
    "from_config",
]  # fmt: skip
