"""What earlier versions promised: their checkpoints go on bit for bit, and the names that scripts import are there.

`golden/gaussian-ring-8-steps.h5` was written after 8 of 18 steps, in the middle of the second epoch. The digests are
of weights, moments and optimizers' states after the last step, by instruction set.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aaecore.backends.cpu import compiled

GOLDEN = Path(__file__).parent / "golden" / "gaussian-ring-8-steps.h5"
V4 = "ef39228d46398d9802ba0473903d21fe44024ff37ad3f2e0031ada3778db2bcc"
AFTER = {
    "v4bf16": V4,
    "v4": V4,
    "v3": "7feedda7a0a4ecbd121d9aa0a8e3198e6d0b4f8c3ae4181da460cca267082124",
    "v2": "ca49303850d238fe757994d49dab1502ea86f0be62d5e0d574dee1f94c04bc1e",
}
LOSSES = [8.538819, 1.558738, 0.8042495]  # of the last epoch, by phase
NAMES = {
    "aaecore": "AAE VAE CaptureError CheckpointError DataError DeviceError Trainer callbacks data datasets functions "
    "get_backend get_num_threads History load models nn optim posteriors priors random schedules set_num_threads "
    "show_config Tensor __version__",
    "aaecore.callbacks": "Callback EarlyStopping Progress SaveBest",
    "aaecore.data": "as_labels as_matrix epoch_order load_hdf5 read_idx",
    "aaecore.datasets": "Dataset Split load",
    "aaecore.functions": "adversarial_bce bce_with_logits concat gaussian_kl gaussian_negative_entropy gaussian_sample "
    "half_squared_error linear mixture_nll weighted Tensor Function Parameter backward",
    "aaecore.models": "Batch Column Losses Model Phase Stream Table model option",
    "aaecore.nn": "Linear MLP load_state_dict state_dict",
    "aaecore.optim": "Adam Optimizer SGD clip_grad_norm",
    "aaecore.posteriors": "Deterministic Gaussian Posterior Universal",
    "aaecore.priors": "CallablePrior Categorical GaussianMixture Hypersphere Normal Prior SwissRoll Uniform as_prior",
    "aaecore.random": "Generator",
    "aaecore.schedules": "Constant Cosine StepWise",
}


CONTINUE = """
import hashlib, json, sys
import numpy as np
from trained import state
from aaecore import Trainer
trainer = Trainer.resume(sys.argv[1])
begun = trainer.steps
trainer.fit(np.random.default_rng(0).random((26, 12), np.float32), 3, progress=False)
digest = hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in state(trainer))).hexdigest()
losses = [trainer.history[name][-1] for name in trainer.names]
print(json.dumps({"steps": [begun, trainer.steps], "losses": losses, "digest": digest}))
"""


@pytest.mark.parametrize("isa", compiled.supported())
def test_a_checkpoint_of_an_earlier_version_goes_on(isa: str) -> None:
    """Bit for bit where the digest is known, and everywhere to about the same losses."""
    environment = os.environ | {"AAECORE_CPU_ISA": isa, "PYTHONPATH": str(Path(__file__).parent)}
    line = [sys.executable, "-c", CONTINUE, str(GOLDEN)]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["steps"] == [8, 18]
    assert made["losses"] == pytest.approx(LOSSES, rel=1e-4)
    assert made["digest"] == AFTER.get(isa, made["digest"])


@pytest.mark.parametrize("module", NAMES)
def test_names_that_scripts_import_are_there(module: str) -> None:
    found = importlib.import_module(module)
    assert not [name for name in NAMES[module].split() if not hasattr(found, name)]
