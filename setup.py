"""Builds `aaecore.kernels.cpu`: one Cython module, with every CPU kernel compiled once per instruction set.

Everything else about the package stands in pyproject.toml. AAECORE_CXXFLAGS adds compiler and linker flags, for instance
"-g -fsanitize=thread".
"""

import os
import platform
import shlex

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

X86 = platform.machine().lower() in ("x86_64", "amd64")
ISA_FLAGS = {"isa_generic.cpp": [], **({"isa_v3.cpp": ["-march=x86-64-v3"], "isa_v4.cpp": ["-march=x86-64-v4"]} if X86 else {})}
# No -ffast-math: some compilers then set flush-to-zero in the whole process of whoever imports the module.
FLAGS = ["-O3", "-std=c++17", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-fvisibility=hidden", "-fno-exceptions", "-g0"]
EXTRA = shlex.split(os.environ.get("AAECORE_CXXFLAGS", ""))


class BuildExt(build_ext):
    """Adds to each kernel source the flags of its instruction set; distutils knows only flags for a whole extension."""

    def build_extension(self, ext):
        compile_one = self.compiler._compile

        def with_isa_flags(obj, src, extension, cc_args, extra_postargs, pp_opts):
            own = FLAGS + ISA_FLAGS[os.path.basename(src)] if os.path.basename(src) in ISA_FLAGS else []
            compile_one(obj, src, extension, cc_args, [*extra_postargs, *own], pp_opts)

        self.compiler._compile = with_isa_flags
        try:
            super().build_extension(ext)
        finally:
            self.compiler._compile = compile_one


HEADERS = ["scalar.h", "simd.h", "threads.h", "table.h", "isa.inc", "linear.hpp", "loss.hpp", "optim.hpp", "random.hpp", "data.hpp"]
cpu = Extension(
    "aaecore.kernels.cpu",
    sources=["kernels/cpu.pyx", "kernels/threads.cpp", "kernels/table.cpp", *(f"kernels/{name}" for name in ISA_FLAGS)],
    depends=[f"kernels/{name}" for name in HEADERS],
    include_dirs=["kernels"],
    language="c++",
    extra_compile_args=["-O3", "-std=c++17", "-fvisibility=hidden", "-g0", *EXTRA],
    extra_link_args=["-pthread", *EXTRA] if EXTRA else ["-pthread", "-Wl,-s"] if os.name == "posix" and platform.system() == "Linux" else [],
)

setup(cmdclass={"build_ext": BuildExt}, ext_modules=cythonize([cpu], build_dir="build/cython"))
