"""`import cupy` gives the emulator: `make gpu DRY=1` puts this folder first on the path of all that it runs."""

import fake_cupy
from emulator.emulator import EmulatedDriver

fake_cupy.install(EmulatedDriver())
