"""Runs the CUDA kernels on the CPU: `emulator.emulator` has the driver, `emulator.build` makes the library under it."""
