"""What this installation is made of, for bug reports and benchmarks."""

from __future__ import annotations

from ._version import __version__


def _version(package: str) -> str:
    from importlib import metadata  # slow to import, so only when asked

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def config() -> dict[str, str]:
    """Compiler, instruction sets, threads and versions, as text."""
    import platform

    from .backends.cpu import default_isa, get_num_threads
    from .kernels import cpu

    cupy = next(
        (v for v in map(_version, ("cupy-cuda13x", "cupy-cuda12x", "cupy")) if v != "not installed"), "not installed"
    )
    return {
        "aaecore": __version__, "python": platform.python_version(), "platform": platform.platform(),
        "compiler": cpu.compiler(), "instruction set": f"{default_isa()} (of {', '.join(cpu.supported())})",
        "threads": str(get_num_threads()), "numpy": _version("numpy"), "h5py": _version("h5py"), "cupy": cupy,
    }  # fmt: skip


def show_config() -> None:
    """Prints `config`."""
    for name, value in config().items():
        print(f"{name:<16} {value}")
