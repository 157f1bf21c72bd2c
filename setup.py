"""Builds `aaecore.kernels.cpu`: one Cython module, with every CPU kernel compiled once per instruction set.

Everything else about the package stands in pyproject.toml. AAECORE_CXXFLAGS adds compiler and linker flags, such as
"-g -fsanitize=thread"; `-j 8` of `setup.py build` compiles so many files at a time.
"""

import glob
import os
import platform
import shlex
from concurrent.futures import Future, ThreadPoolExecutor

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# Exactly what table.cpp asks the CPU for, not -march=x86-64-v3: a virtual machine may hide the rest of that level.
V2 = ["-mssse3", "-msse4.1", "-msse4.2", "-mpopcnt"]
V3 = [*V2, "-mavx2", "-mfma", "-mbmi2"]
V4 = [*V3, *(f"-mavx512{part}" for part in ("f", "bw", "cd", "dq", "vl"))]
V4_BF16 = [*V4, "-mavx512bf16"]
X86: dict[str, list[str]] = {"isa_v2.cpp": V2, "isa_v3.cpp": V3, "isa_v4.cpp": V4, "isa_v4bf16.cpp": V4_BF16}
ARM64: dict[str, list[str]] = {"isa_neon.cpp": []}
BY_MACHINE = {"x86_64": X86, "amd64": X86, "aarch64": ARM64, "arm64": ARM64}
ISA_FLAGS = BY_MACHINE.get(platform.machine().lower(), {"isa_generic.cpp": []})
# No -ffast-math: some compilers then set flush-to-zero in the whole process of whoever imports the module.
KERNEL_FLAGS = ["-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-fno-exceptions"]
EXTRA = shlex.split(os.environ.get("AAECORE_CXXFLAGS", ""))
STRIP = ["-Wl,-s"] if platform.system() == "Linux" and not EXTRA else []


class BuildExt(build_ext):
    """Adds to each kernel source the flags of its instruction set; distutils knows only flags for a whole extension.

    And compiles the sources of the one extension in parallel; distutils knows only extensions in parallel.
    """

    def build_extension(self, ext):
        compile_one, link = self.compiler._compile, self.compiler.link_shared_object
        jobs: list[Future[None]] = []
        pool = ThreadPoolExecutor(int(self.parallel or 1))

        def with_isa_flags(obj, src, extension, cc_args, extra_postargs, pp_opts):
            name = os.path.basename(src)
            own = KERNEL_FLAGS + ISA_FLAGS[name] if name in ISA_FLAGS else []
            jobs.append(pool.submit(compile_one, obj, src, extension, cc_args, [*extra_postargs, *own], pp_opts))

        def link_when_compiled(*arguments, **options):
            for job in jobs:
                job.result()
            link(*arguments, **options)

        self.compiler._compile, self.compiler.link_shared_object = with_isa_flags, link_when_compiled
        try:
            with pool:
                super().build_extension(ext)
        finally:
            self.compiler._compile, self.compiler.link_shared_object = compile_one, link


cpu = Extension(
    "aaecore.kernels.cpu",
    sources=[f"kernels/cpu/{name}" for name in ("cpu.pyx", "threads.cpp", "table.cpp", *ISA_FLAGS)],
    depends=sorted(path for ending in ("h", "hpp", "inc") for path in glob.glob(f"kernels/*/*.{ending}")),
    include_dirs=["kernels/cpu", "kernels/shared"],
    language="c++",
    extra_compile_args=["-O3", "-std=c++17", "-fvisibility=hidden", "-g0", *EXTRA],
    extra_link_args=["-pthread", *STRIP, *EXTRA],
)

setup(cmdclass={"build_ext": BuildExt}, ext_modules=cythonize([cpu], build_dir="build/cython"))
