"""What trained models are worth: measures of the paper and others', and the models of its figures."""

from .clusters import ari, cluster_error, hungarian_error, majority_error, nmi, usage
from .leakage import Leakage, leakage
from .likelihood import Likelihood, likelihood
from .partition import ais, log_likelihood, log_partition
from .parzen import Parzen, choose_sigma, parzen
from .splits import label_split

__all__ = [
    "Leakage", "Likelihood", "Parzen", "ais", "ari", "choose_sigma", "cluster_error", "hungarian_error", "label_split",
    "leakage", "likelihood", "log_likelihood", "log_partition", "majority_error", "nmi", "parzen", "usage",
]  # fmt: skip
