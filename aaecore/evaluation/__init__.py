"""What trained models are worth: measures of the paper and others', and the models of its figures."""

from .clusters import ari, cluster_error, hungarian_error, majority_error, nmi, usage
from .leakage import Leakage, leakage
from .partition import ais, log_likelihood, log_partition
from .splits import label_split

__all__ = [
    "Leakage", "ais", "ari", "cluster_error", "hungarian_error", "label_split", "leakage", "log_likelihood",
    "log_partition", "majority_error", "nmi", "usage",
]  # fmt: skip
