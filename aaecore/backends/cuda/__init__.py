"""GPUs: kernels compiled by NVRTC, launched through CuPy, replayed as CUDA graphs."""
