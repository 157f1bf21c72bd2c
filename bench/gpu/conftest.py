"""What the tests of measuring share: the emulated device, and a size that it makes steps of in no time."""

from __future__ import annotations

import cuda_devices
import pytest
from sizes import Size

from aaecore.backends.cuda import backend as cuda
from gpu.goals import GPU_SIZES


@pytest.fixture
def emulator() -> None:
    """Skips where there can be none, and says what it lacks."""
    if cuda_devices.MISSING:
        pytest.skip(cuda_devices.MISSING)


@pytest.fixture
def emulated(emulator: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """device="cuda" is the emulator."""
    monkeypatch.setattr(cuda, "make_driver", lambda device: cuda_devices.driver())


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a size."""
    monkeypatch.setitem(GPU_SIZES, "tiny", Size(12, 9, 2, 7))
    return "tiny"
