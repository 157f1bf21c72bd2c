"""Who runs the ops: a CPU, a GPU through CuPy, and the NumPy reference."""
