"""What a file holds under a good seal: loading needs no more than it uses, and takes no numbers that cannot be."""

import re

import numpy as np
import pytest
from trained import PLAIN

from aaecore import AAE, CheckpointError, Trainer, load
from aaecore.core.ops import BETA1, EPS, GRAD_SCALE, LR, STEP
from aaecore.files import checkpoint
from aaecore.optim import SGD
from aaecore.training import state

X = np.random.default_rng(0).random((60, 6), np.float32)


def trained(**options):
    trainer = Trainer(AAE(6, 2, (5,), **{**PLAIN, **options}), 20)
    trainer.fit(X, 2, progress=False)
    return trainer


def normal(n, rng):
    return rng.standard_normal((n, 2))


def rewrite(path, change):
    """Changes what is in a checkpoint and seals it again."""
    kept = {}

    def expected(meta):
        kept.update(meta)
        return state.expected(meta, make=Trainer)

    tensors, meta = checkpoint.read(path, expected)
    change(tensors, meta)
    checkpoint.write(path, tensors, meta)


@pytest.mark.parametrize("alone", [True, False])
def test_a_model_without_its_callable_prior_encodes_and_says_at_a_draw_what_it_lacks(tmp_path, alone):
    trainer, path = trained(prior=normal), tmp_path / "c.h5"
    (trainer.model if alone else trainer).save(path)
    model = load(path)
    assert np.array_equal(model.encode(X), trainer.model.encode(X))
    assert np.array_equal(model.reconstruct(X), trainer.model.reconstruct(X))
    for use in (lambda: model.sample(3), lambda: model.sample_prior(3), lambda: Trainer(model, 20).step(X[:20])):
        with pytest.raises(ValueError, match=r"^prior: 'normal' was a callable, .*; pass it as prior="):
            use()
    model.save(path)  # which does not forget what it was
    assert np.array_equal(load(path, prior=normal).sample(3), load(path, prior=normal).sample(3))


@pytest.mark.parametrize(("device", "precision"), [("cuda", "tf32"), ("cuda:1", "bf16"), ("cuda", "fp32")])
@pytest.mark.parametrize("use", [load, lambda path, device: Trainer.resume(path, device=device).model])
def test_a_checkpoint_of_a_gpu_goes_on_where_there_is_none(tmp_path, use, device, precision):
    trainer, path = trained(), tmp_path / "c.h5"
    trainer.save(path)
    rewrite(path, lambda tensors, meta: meta["model"].update(device=device, precision=precision))
    model = use(path, device="cpu")
    assert (model.backend.name, model.precision) == ("cpu", "bf16" if precision == "bf16" else "fp32")
    np.testing.assert_allclose(model.encode(X), trainer.model.encode(X), atol=0.05 if precision == "bf16" else 1e-6)


def put(name, index, value):
    return lambda tensors, meta: tensors[name].reshape(-1).__setitem__(index, value)


def tell(where, **values):
    return lambda tensors, meta: meta[where].update(values)


STATE = "optimizer/discriminator/state"
CONTENT = {
    "weight": (put("model/encoder.0.weight", 3, np.nan), "model/encoder.0.weight: expected finite numbers"),
    "bias": (put("model/decoder.0.bias", 0, -np.inf), "model/decoder.0.bias: expected finite numbers"),
    "moment": (
        put("optimizer/discriminator/m/discriminator.0.weight", 0, np.inf),
        "m/discriminator.0.weight: expected finite",
    ),
    "second": (
        put("optimizer/discriminator/v/discriminator.0.weight", 0, -1e-9),
        "v/discriminator.0.weight: expected second moments",
    ),
    "steps": (put(STATE, STEP, -1.0), f"{STATE}: expected the state of"),
    "half a step": (put(STATE, STEP, 1.5), f"{STATE}: expected the state of"),
    "rate": (put(STATE, LR, -1.0), f"{STATE}: expected the state of"),
    "large rate": (put(STATE, LR, 1e39), f"{STATE}: expected the state of"),
    "scale": (put(STATE, GRAD_SCALE, 7.0), f"{STATE}: expected the state of"),
    "beta": (put(STATE, BETA1, 7.0), f"{STATE}: expected the state of"),
    "eps": (put(STATE, EPS, 0.0), f"{STATE}: expected the state of"),
    "infinite eps": (put(STATE, EPS, np.inf), f"{STATE}: expected finite numbers"),
    "seed": (put("random/state", 0, 9), "random/state: expected the seed 0, got 9"),
    "position": (tell("position", rows_used=61), "expected a position within the data"),
    "many steps": (tell("position", steps=10**30), "steps: expected an integer >= 0"),
    "half an epoch": (tell("position", epoch=0.5), "epoch: expected an integer >= 0"),
    "sums": (tell("position", sums=[0.0, 0.0, float("nan")]), "expected a position within the data"),
    "large sums": (tell("position", sums=[0.0, 0.0, 10**400]), "int too large"),
    "no sums": (tell("position", sums=None), "does not fit a trainer"),
    "norm": (tell("trainer", clip_norm=10**400), "clip_norm: expected a number > 0"),
    "schedule": (
        tell("trainer", schedule={"type": "StepWise", "milestones": [1, 2], "factor": 1e30}),
        "factor: expected",
    ),
    "milestones": (tell("trainer", schedule={"type": "StepWise", "milestones": [10**400]}), "milestones: expected"),
    "a prior without a name": (tell("model", prior={"type": "callable"}), "prior: expected type to be one of"),
    "a prior without numbers": (tell("model", prior={"type": "Normal", "std": "wide"}), "std: expected a number"),
    "a prior too wide": (tell("model", prior={"type": "Normal", "std": 10**400}), "std: expected a number"),
    "a prior with infinite draws": (tell("model", prior={"type": "Uniform", "low": -3e38, "high": 3e38}), "high: "),
    "an unknown prior": (tell("model", prior={"type": "Cauchy"}), "prior: expected type to be one of"),
    "a list for a prior": (tell("model", prior=["Normal"]), "damaged or hostile metadata"),
    "a million layers": (tell("model", hidden=[1] * 10**6), "hidden: expected at most 1000 integers, got 1000000"),
    "huge text": (tell("model", activation="x" * 10**6), "activation: expected one of"),
}


@pytest.mark.parametrize("case", CONTENT)
def test_numbers_that_cannot_be_are_refused(tmp_path, case):
    change, message = CONTENT[case]
    trained().save(tmp_path / "c.h5")
    rewrite(tmp_path / "c.h5", change)
    with pytest.raises(CheckpointError, match=f"c.h5: .*{re.escape(message)}") as info:
        Trainer.resume(tmp_path / "c.h5")
    assert len(str(info.value)) < 2000


def test_states_of_other_optimizers_and_clipped_ones_come_back(tmp_path):
    makers = {"reconstruction": lambda p: SGD(p, 0.1, 0.9)}
    trainer = Trainer(AAE(6, 2, (5,), seed=2**63 - 1), 20, optimizers=makers, clip_norm=1e-3)
    trainer.fit(X, 2, progress=False, checkpoint=tmp_path / "c.h5")
    assert Trainer.resume(tmp_path / "c.h5").steps == trainer.steps
