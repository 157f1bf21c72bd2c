"""Models: what the paper trains."""
