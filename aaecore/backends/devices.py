"""Which backend a device's name stands for."""

from __future__ import annotations

from ..arguments import shown
from ..core.backend import Backend


def get_backend(device: str = "cpu") -> Backend:
    """A new backend: "cpu", "cuda" (the current CUDA device), "cuda:<number>" or "reference".

    Raises:
        ValueError: an unknown name. DeviceError: a device that this version or this machine does not have.
    """
    if device == "cpu":
        from .cpu import CpuBackend

        return CpuBackend()
    if device == "reference":
        from .reference import ReferenceBackend

        return ReferenceBackend()
    if device == "cuda" or (isinstance(device, str) and device.startswith("cuda:")):
        from .cuda import backend as cuda

        return cuda.CudaBackend(cuda.make_driver(device))
    if isinstance(device, str) and device.startswith("shapes:"):  # float32 or float64: of no use to users
        from .shapes import ShapesBackend

        return ShapesBackend(device.removeprefix("shapes:"))
    raise ValueError(f"device: expected 'cpu', 'cuda', 'cuda:<number>' or 'reference', got {shown(device)}")
