"""The specification of every op: one short NumPy function each, written to be read and trusted, not to be fast.

A function takes the buffers of its op as C-contiguous arrays in their logical shape (`Arg.shape`; a weight is plain
(out, in)), then the dims, then the scalars, all in the order and by the names of the op table. It writes its outputs
in place. Everything is computed in the dtype of the real arrays: float64 is the reference proper, and the same
functions on float32 arrays are the "plain NumPy float32 implementation" that sets the tolerance of the kernels' tests.
"""

from .backend import FUNCTIONS, ReferenceBackend

__all__ = ["FUNCTIONS", "ReferenceBackend"]
