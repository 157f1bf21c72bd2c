"""Small models and how their tests train, look into and compare them."""

import numpy as np
import pytest

from aaecore import AAE, Trainer, callbacks, set_num_threads
from aaecore.options import declared

D = 20
# The paper's form: each phase an update of its own, at whose rate a test can turn. And the form that a model has by
# default, said in full.
PLAIN = {"standardise": False, "generator_weight": 0.0, "gradient_penalty": 0.0}
DEFAULT = {name: declared(AAE)[name].default for name in PLAIN}
both_forms = pytest.mark.parametrize("form", [PLAIN, DEFAULT], ids=["plain", "default"])


def rows():
    """(130, D): in batches of 32 an epoch is five steps, the last of two rows."""
    return np.random.default_rng(0).random((130, D), np.float32)


def model(**options):
    """In the plain form, unless the options say another."""
    return AAE(D, options.pop("latent_dim", 3), options.pop("hidden", (33, 17)), **{"seed": 1, **PLAIN, **options})


def state(trainer):
    """All that training changes."""
    weights = trainer.model.state_dict()
    moments = {
        (phase, moment, i): trainer.backend.to_host(b)
        for phase, o in trainer.optimizers.items()
        for moment, table in o.moments.items()
        for i, b in enumerate(table.values())
    }
    return [
        *weights.values(),
        *moments.values(),
        *(trainer.backend.to_host(o.state) for o in trainer.optimizers.values()),
    ]


def same(a, b):
    return all(np.array_equal(u, v) for u, v in zip(state(a), state(b), strict=True))


def train(x, epochs=3, threads=1, *, batch_size=32, trainer_options=None, **options):
    set_num_threads(threads)
    trainer = Trainer(model(**options), batch_size, **(trainer_options or {}))
    trainer.fit(x, epochs, progress=False)
    return trainer


class StopAt(callbacks.Callback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, trainer, losses):
        return trainer.steps >= self.step
