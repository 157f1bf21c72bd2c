"""docs/guide.md: every block of Python runs as it stands, and every attribute that it names is there."""

import ast
import importlib
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

import aaecore

GUIDE = Path(__file__).parent.parent / "docs" / "guide.md"
TEXT = GUIDE.read_text(encoding="utf-8")
CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)
# What a block may import besides what the development extra brings, and how one gets it.
OPTIONAL = {
    "cupy": "a GPU and CuPy: pip install '.[cuda13x]'",
    "onnxruntime": "ONNX: pip install onnx onnxruntime onnxscript",
    "safetensors": "safetensors: pip install safetensors",
    "sklearn": "scikit-learn: pip install '.[sklearn]'",
    "torch": "PyTorch: pip install torch",
}


def sections():
    """Title -> blocks of Python: of a section below another one those of the upper come first."""
    found, upper = {}, []
    for part in re.split(r"^(?=##)", TEXT, flags=re.MULTILINE):
        title, blocks = part.splitlines()[0].strip("# "), CODE.findall(part)
        if part.startswith("## "):
            upper = blocks
        elif part.startswith("### "):
            blocks = upper + blocks
        if blocks:
            found[title] = blocks
    return found


SECTIONS = sections()


def require(block):
    """Skips where a package that the block imports is missing, or a GPU."""
    names = {n.name for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Import) for n in node.names}
    names |= {node.module for node in ast.walk(ast.parse(block)) if isinstance(node, ast.ImportFrom)}
    for name in sorted({name.split(".")[0] for name in names} & OPTIONAL.keys()):
        try:
            package = importlib.import_module(name)
            if name == "cupy":
                package.cuda.runtime.getDeviceCount()
        except (ImportError, OSError, RuntimeError) as error:  # missing, broken, or without a GPU
            pytest.skip(f"needs {OPTIONAL[name]} ({type(error).__name__})")


@pytest.mark.parametrize("title", SECTIONS)
def test_its_blocks_run_in_order(title, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    registry = importlib.import_module("aaecore.models.registry")
    monkeypatch.setattr(registry, "MODELS", dict(registry.MODELS))
    names = {"__name__": "guide"}
    for number, block in enumerate(SECTIONS[title], 1):
        require(block)
        with warnings.catch_warnings():
            if "torch" in block or "sklearn" in block:
                warnings.simplefilter("default")  # theirs are not ours
            exec(compile(block, f"guide.md, {title}, block {number}", "exec"), names)


ROWS = {"input_dim": 12, "latent_dim": 3, "hidden": (16, 8), "seed": 0}
WIDE = aaecore.priors.Normal(std=5.0, mean=2.0)
TABLE = {"reconstruction": "mse", "output": "linear"}
EXPORTED = {
    "default": lambda: aaecore.AAE(**ROWS),
    "wide prior": lambda: aaecore.AAE(**ROWS, prior=WIDE, posterior="gaussian"),
    "noise": lambda: aaecore.AAE(**ROWS, prior=WIDE, posterior="universal"),
    "table": lambda: aaecore.AAE(**ROWS, prior=WIDE, **TABLE),
    "squares": lambda: aaecore.AAE(**ROWS, reconstruction="mse", output="sigmoid"),
    "as it is": lambda: aaecore.AAE(**ROWS, standardise=False),
    "one layer": lambda: aaecore.AAE(**{**ROWS, "hidden": ()}, discriminator_hidden=(8,), prior=WIDE, **TABLE),
    "VAE": lambda: aaecore.VAE(**ROWS),
    "VAE of a table": lambda: aaecore.VAE(**ROWS, **TABLE),
}


@pytest.mark.parametrize("name", EXPORTED)
def test_exported_layers_give_the_codes_and_the_data(name):
    """What the recipe for PyTorch does, in NumPy: it needs no other package."""
    (recipe,) = (block for block in SECTIONS["To PyTorch and ONNX"] if "def plain_layers" in block)
    names = {}
    exec(recipe, names)
    model = EXPORTED[name]()
    x = np.random.default_rng(0).random((60, 12), np.float32) ** 2
    x = 3 + 2 * x if model.output == "linear" else x
    aaecore.Trainer(model, 20).fit(x, 2, progress=False)

    def run(network, y):
        *hidden, last = names["plain_layers"](model, network)
        for weight, bias in hidden:
            y = np.maximum(y @ weight.T + bias, 0)
        return y @ last[0].T + last[1]

    noise = np.zeros((60, 3 if name == "noise" else 0), np.float32)
    z = run("encoder", np.concatenate([x, noise], axis=1))[:, :3]
    np.testing.assert_allclose(z, model.encode(x), rtol=1e-4, atol=1e-4)
    y = run("decoder", z)
    images = y if model.output == "linear" else 1 / (1 + np.exp(-y))
    np.testing.assert_allclose(images, model.reconstruct(x), rtol=1e-4, atol=1e-4)


def test_all_jobs_are_there_and_linked():
    tops = re.findall(r"^## (.*)$", TEXT, re.MULTILINE)
    assert len(tops) == 15
    for top in tops:
        anchor = re.sub(r"[^\w\- ]", "", top.lower()).replace(" ", "-")
        assert f"[{top}](#{anchor})" in TEXT
    for link in re.findall(r"\]\(([^#.)][^)]*)\)", TEXT):  # of this folder, which comes along where the tests do
        assert (GUIDE.parent / link).exists(), link


def test_the_attributes_are_there():
    model = aaecore.AAE(4, 2, (3,))
    trainer = aaecore.Trainer(model, 4)
    trainer.fit(np.full((4, 4), 0.5, np.float32), 1, progress=False)
    owners = {"`Trainer`": trainer, "`History`": trainer.history, "`Model`, of all kinds": model, "`AAE`": model}
    tables = TEXT[TEXT.index("## What the objects have") :].split("\n\n")
    seen = set()
    for table in (t for t in tables if t.startswith("| ")):
        head, _, *rows = table.splitlines()
        owner = head.strip("| ")
        seen.add(owner)
        for row in rows:
            first, text = row.strip("| ").split(" | ", 1)
            for name in re.findall(r"`(\w+)`", first):
                assert hasattr(owners[owner], name), f"{owner}.{name}"
                if "read-only" in text:
                    with pytest.raises(AttributeError):
                        setattr(owners[owner], name, getattr(owners[owner], name))
    assert seen == owners.keys()
