"""What all tests need of their process."""

import signal

import numpy as np
import pytest

from aaecore import get_backend, get_num_threads, set_num_threads

# A shell starts jobs in the background with SIGINT ignored, and whatever they start inherits that. Tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def backend():
    """Of float64, for finite differences."""
    return get_backend("reference")


@pytest.fixture
def threads():
    """Sets how many the process has, for a test."""
    before = get_num_threads()
    yield set_num_threads
    set_num_threads(before)


@pytest.fixture
def cuda_device(monkeypatch):
    """device="cuda" is the emulator, or the GPU."""
    import cuda_devices  # what it stands on is slow to import, and most tests need none of it

    monkeypatch.setattr("aaecore.backends.cuda.backend.make_driver", lambda device: cuda_devices.driver())
