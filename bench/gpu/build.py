"""What a run on a GPU needs of this library, below a build folder: taken from the pack, or compiled where it must be.

    python -m gpu.build --folder build/gpu                 its Python files and the extension
    python -m gpu.build --folder build/gpu --kernels       the CUDA kernels for this GPU, into their cache

Prints a line of JSON for each part: where it is from, and why it is not from the pack. The extension is compiled with
little optimization: on a GPU it is what the library is imported with, and the reference for a few results.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

from gpu import pack
from gpu.environment import ROOT

TAG = str(sysconfig.get_config_var("EXT_SUFFIX"))  # the Python's binary interface and the platform
PACKAGE_DATA = ("*.py", "*.pyi", "cuda/*", "shared/*")  # files of kernels/ that are installed
Row = dict[str, Any]


def packed_extension(folder: Path = pack.FOLDER) -> str:
    """Why the pack's extension cannot be taken; "" if it can."""
    return pack.why_not(pack.read(folder).get("extension", {}), folder, digest=pack.extension_digest(), tag=TAG)


def copy_python(library: Path) -> Path:
    """The package, without a compiled module; gives the folder that this goes into."""
    shutil.rmtree(library, ignore_errors=True)
    shutil.copytree(ROOT / "aaecore", library / "aaecore", ignore=shutil.ignore_patterns("__pycache__"))
    kernels = library / "aaecore" / "kernels"
    kernels.mkdir()
    for path in (p for pattern in PACKAGE_DATA for p in (ROOT / "kernels").glob(pattern)):
        target = kernels / path.relative_to(ROOT / "kernels")
        target.parent.mkdir(exist_ok=True)
        shutil.copy(path, target)
    return kernels


def import_error(library: Path) -> str:
    """The last line of what importing the library says; "" if it can be imported."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(library), os.environ.get("PYTHONPATH", "")])}
    line = [sys.executable, "-P", "-c", "import aaecore"]
    done = subprocess.run(line, capture_output=True, text=True, env=environment, check=False)
    return (done.stderr.strip().splitlines() or ["it cannot be imported"])[-1] if done.returncode else ""


def compile_extension(folder: Path) -> bool:
    line = [sys.executable, "setup.py", "build_ext", "--force", "-j", str(len(os.sched_getaffinity(0)))]
    line += ["--build-temp", str(folder / "temp"), "--build-lib", str(folder / "lib")]
    environment = os.environ | {"AAECORE_CXXFLAGS": f"{os.environ.get('AAECORE_CXXFLAGS', '')} -O1 -w".strip()}
    return subprocess.run(line, cwd=ROOT, env=environment, stdout=sys.stderr, check=False).returncode == 0


def extension(folder: Path, packed: Path = pack.FOLDER) -> Row:
    """From the pack if it belongs to these sources and this Python, is whole and can be imported; else compiled."""
    library = folder / "lib"
    target = copy_python(library) / f"cpu{TAG}"
    why = packed_extension(packed)
    if not why:
        shutil.copyfile(packed / pack.read(packed)["extension"]["file"], target)
        why = import_error(library)
    if not why:
        return {"part": "extension", "from": "pack"}
    target.unlink(missing_ok=True)
    if not compile_extension(folder):
        return {"part": "extension", "why": why, "missing": "it could not be compiled; see the log"}
    error = import_error(library)
    return {"part": "extension", "why": why, **({"missing": error} if error else {"from": "compiled, -O1"})}


def store_packed(names: list[str], architecture: str, packed: Path) -> dict[str, str]:
    """Puts the pack's machine code into the cache; gives, by name, why that of a source could not be taken."""
    from aaecore.backends.cuda import nvrtc

    known, left = pack.read(packed).get("kernels", {}), {}
    for name in names:
        left[name] = pack.why_not(known.get(name, {}), packed, digest=nvrtc.digest(name, architecture))
        if not left[name]:
            nvrtc.store(name, architecture, (packed / known[name]["file"]).read_bytes())
    return {name: why for name, why in left.items() if why}


def kernels(packed: Path = pack.FOLDER) -> Row:
    """What the pack lacks is compiled, in processes beside each other."""
    import cupy

    from aaecore.backends.cuda import nvrtc

    runtime = cupy.cuda.runtime
    properties = runtime.getDeviceProperties(runtime.getDevice())
    architecture = nvrtc.architecture((properties["major"], properties["minor"]))
    names = [name for name in nvrtc.sources() if name.endswith(".cu")]
    left = store_packed(names, architecture, packed)
    row: Row = {"part": "kernels", "architecture": architecture, "from the pack": len(names) - len(left)}
    code = "import sys; from aaecore.backends.cuda import nvrtc; nvrtc.cubin(*sys.argv[1:])"
    running = {n: subprocess.Popen([sys.executable, "-P", "-c", code, n, architecture]) for n in left}
    failed = [name for name, process in running.items() if process.wait()]
    row |= {"compiled": len(left) - len(failed), "why": next(iter(left.values()))} if left else {}
    return row | ({"missing": f"not compiled: {', '.join(failed)}"} if failed else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--pack", type=Path, default=pack.FOLDER)
    parser.add_argument("--kernels", action="store_true")
    options = parser.parse_args()
    begin = time.perf_counter()
    row = kernels(options.pack) if options.kernels else extension(options.folder.resolve(), options.pack)
    print(json.dumps({**row, "seconds": round(time.perf_counter() - begin, 1)}), flush=True)
    sys.exit("missing" in row)


if __name__ == "__main__":
    main()
