"""Files in and out: one atomic writer, guarded readers, checkpoints."""
