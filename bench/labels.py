"""How tables and pictures name competitors and write numbers."""

from __future__ import annotations

LIBRARIES = {"torch": "PyTorch", "jax": "JAX", "numpy": "NumPy", "python": "Python"}
VARIANTS = {"inplace": "in place", "replay": "", "trainer": "", "medium": "medium precision"}


def name(spec: str) -> str:
    """torch:eager:bf16 as PyTorch eager bf16."""
    library, *rest = spec.split(":")
    return " ".join(filter(None, [LIBRARIES.get(library, library), *(VARIANTS.get(part, part) for part in rest)]))


def number(value: float) -> str:
    """Three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
