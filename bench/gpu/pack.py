"""Makes what a machine with a GPU would need minutes to compile, or may lack: `make gpu-pack`, where there is no GPU.

    python -m gpu.pack --python python3.12        into build/gpu-pack

The kernels' machine code for one architecture, the compiled extension for one Python on this kind of processor, and
wheels of what compiling the extension needs. The manifest has a digest of what each was made from, and of each file:
`gpu/build.py` takes no part that does not belong to the working tree, or that is damaged.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gpu.environment import ROOT

FOLDER = ROOT / "build" / "gpu-pack"
ARCHITECTURE = "sm_90a"  # of H100 and H200
WHEELS = ("packaging>=24.2", "setuptools>=77", "cython>=3.1,!=3.2.6")  # what pyproject.toml builds with
COMPILED = ("cpu/*", "shared/*")  # files of kernels/ that the extension is made of
Manifest = dict[str, Any]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def extension_digest(root: Path = ROOT) -> str:
    """Of all that the extension is compiled from, and how."""
    made = hashlib.sha256()
    kernels = root / "kernels"
    for path in (root / "setup.py", *sorted(p for pattern in COMPILED for p in kernels.glob(pattern))):
        made.update(f"{path.name}\0{path.read_text('utf-8')}\0".encode())
    return made.hexdigest()


def read(folder: Path = FOLDER) -> Manifest:
    """The manifest; an empty one where there is no pack, or a damaged manifest."""
    try:
        return dict(json.loads((folder / "manifest.json").read_text("utf-8")))
    except (OSError, ValueError):
        return {}


def why_not(part: Manifest, folder: Path, **expected: str) -> str:
    """Why a part of a pack cannot be taken; "" if it can. `expected` are entries of the part, such as its digest."""
    if not part:
        return "not in the pack"
    for name, value in expected.items():
        if part.get(name) != value:
            return f"the pack is for another {name}: {str(part.get(name))[:40]}"
    path = folder / str(part["file"])
    return "" if path.is_file() and sha256(path) == part["sha256"] else f"{path.name} of the pack is damaged"


def tag_of(python: str) -> str:
    """Of a Python's extensions. SystemExit: there is no such Python."""
    ask = "import sysconfig; print(sysconfig.get_config_var('EXT_SUFFIX'))"
    try:
        return subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        raise SystemExit(f"PACK_PYTHON: expected a Python of the other machine's version, got {python}") from None


def extension(python: str, before: Manifest, folder: Path) -> Manifest:
    """Compiled by a Python in an environment of its own, unless the pack has it already."""
    tag = tag_of(python)
    made = {"digest": extension_digest(), "tag": tag, "file": f"cpu{tag}"}
    if not why_not(before.get("extension", {}), folder, digest=made["digest"], tag=tag):
        return dict(before["extension"])
    environment = ROOT / "build" / f"gpu-pack-python{tag.removesuffix('.so')}"
    own, base = environment / "bin" / "python", ROOT / "build" / "gpu-pack-base"
    base.mkdir(parents=True, exist_ok=True)
    subprocess.run([python, "-m", "venv", str(environment)], check=True)
    subprocess.run([str(own), "-m", "pip", "install", "-q", "--disable-pip-version-check", *WHEELS], check=True)
    line = [str(own), "setup.py", "build_ext", "--force", "-j", str(len(os.sched_getaffinity(0)))]
    line += ["--build-temp", str(base / "temp"), "--build-lib", str(base / "lib")]
    with (base / "log").open("w") as log:
        if subprocess.run(line, cwd=ROOT, stdout=log, stderr=log, check=False).returncode:
            raise SystemExit(f"the extension could not be compiled: {log.name}")
    shutil.copyfile(base / "lib" / "aaecore" / "kernels" / made["file"], folder / made["file"])
    return {**made, "sha256": sha256(folder / made["file"])}


def kernels(folder: Path, architecture: str = ARCHITECTURE) -> Manifest:
    """By source file, its machine code; the longest ones are begun first."""
    from aaecore.backends.cuda import nvrtc

    names = sorted(n for n in nvrtc.sources() if n.endswith(".cu"))
    names.sort(key=lambda name: not name.startswith("linear"))

    def compile_one(name: str) -> Manifest:
        file = f"{Path(name).stem}.cubin"
        (folder / file).write_bytes(nvrtc.cubin(name, architecture))
        return {"digest": nvrtc.digest(name, architecture), "file": file, "sha256": sha256(folder / file)}

    first = compile_one(names[-1])  # NVRTC must not be loaded by two threads at once
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return dict(zip([names[-1], *names[:-1]], [first, *pool.map(compile_one, names[:-1])], strict=True))


def wheels(python: str, folder: Path) -> Manifest:
    """By project; pure Python, so that they fit any machine."""
    shutil.rmtree(folder / "wheels", ignore_errors=True)
    line = [python, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
    line += ["--platform", "any", "--implementation", "py", "--abi", "none", "--dest", str(folder / "wheels"), *WHEELS]
    subprocess.run(line, check=True)
    found = {path.name.split("-")[0].lower(): path for path in (folder / "wheels").glob("*.whl")}
    return {name: {"file": f"wheels/{path.name}", "sha256": sha256(path)} for name, path in sorted(found.items())}


def parts(manifest: Manifest) -> Iterator[Manifest]:
    yield manifest["extension"]
    yield from manifest["kernels"].values()
    yield from manifest["wheels"].values()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default="python3.12", help="that of the machine with a GPU, by its version")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    options = parser.parse_args()
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    tag_of(options.python)
    manifest: Manifest = {
        "architecture": ARCHITECTURE, "kernels": kernels(folder),
        "extension": extension(options.python, read(folder), folder), "wheels": wheels(options.python, folder),
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    megabytes = sum((folder / part["file"]).stat().st_size for part in parts(manifest)) / 1e6
    print(f"{folder}: {len(manifest['kernels'])} sources' machine code for {ARCHITECTURE}, the extension for")
    print(f"{manifest['extension']['tag']}, wheels of {', '.join(manifest['wheels'])}: {megabytes:.1f} MB")


if __name__ == "__main__":
    main()
