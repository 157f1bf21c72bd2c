"""What trained models are worth: measures of the paper and others', and the models of its figures."""

from .clusters import ari, cluster_error, hungarian_error, majority_error, nmi, usage
from .leakage import Leakage, leakage
from .splits import label_split

__all__ = [
    "Leakage", "ari", "cluster_error", "hungarian_error", "label_split", "leakage", "majority_error", "nmi", "usage",
]  # fmt: skip
