"""Device code: the CUDA and C++ kernels, and the compiled module `aaecore.kernels.cpu` that launches the latter."""
