"""Checked input: arrays from the user, the order of an epoch, and numbers from HDF5, CSV and IDX files."""

from ..files.csv import load_csv
from ..files.hdf5 import load_hdf5
from ..files.idx import read_idx
from .arrays import as_labels, as_matrix
from .order import epoch_order

__all__ = ["as_labels", "as_matrix", "epoch_order", "load_csv", "load_hdf5", "read_idx"]
