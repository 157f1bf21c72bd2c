"""Models: what the paper trains, what it compares with, and what it takes to write another."""

from ..data.table import Column, Stream, Table
from ..options import COUNT, COUNTS, SWITCH, TEXT, integer, number, one_of, option
from ..priors import PRIOR
from .aae import AAE
from .batch import Batch
from .clustering import ClusteringAAE
from .dbm import DBM
from .dbn import DBN
from .denoising import DenoisingAE
from .gan import GAN
from .gmmn import GMMN
from .label_informed import LabelInformedAAE
from .labelled import Labelled
from .model import Losses, Model
from .phase import Phase
from .rbm import RBM
from .reduction import ReductionAAE
from .registry import model
from .semisupervised import SemiSupervisedAAE
from .supervised import SupervisedAAE
from .vae import VAE
from .wae import WAE

DEFAULT: type[Model] = AAE  # what the command line trains unless it is told otherwise

__all__ = [
    "AAE", "COUNT", "COUNTS", "DBM", "DBN", "DEFAULT", "GAN", "GMMN", "PRIOR", "RBM", "SWITCH", "TEXT", "VAE", "WAE",
    "Batch", "ClusteringAAE", "Column", "DenoisingAE", "LabelInformedAAE", "Labelled", "Losses", "Model", "Phase",
    "ReductionAAE", "SemiSupervisedAAE", "Stream", "SupervisedAAE", "Table", "integer", "model", "number", "one_of",
    "option",
]  # fmt: skip
