"""The losses of one step by phase, and their gradients beside finite differences."""

import numpy as np
from gradients import numeric_gradient

from aaecore.functions.tensor import backward
from aaecore.models import Batch


def yielded(model, inputs, dials):
    """The losses of one step by phase, without any update in between, of arrays by the name of a column."""
    backend = model.backend
    model.generator.restart()
    values = {name: backend.from_host(np.array([value])) for name, value in dials.items()}
    batch = Batch({k: backend.from_host(v) for k, v in inputs.items()}, model.draws, values, model.generator)
    return {phase: losses for phase, *losses in model.step(batch)}


def weight_of(loss):
    """By what a loss is weighed that is no part of the value of its phase.

    Of the two losses of a difference that are uncounted each has half of its gradient.
    """
    if loss.counted:
        return 1.0
    if not hasattr(loss.maker, "loss"):
        return 0.5
    seed, plain = (loss.backend.to_host(f.seed) for f in (loss.maker, loss.maker.loss))
    at = np.unravel_index(np.abs(plain).argmax(), plain.shape)
    return seed[at] / plain[at]


def check_phases(model, losses):
    """The gradients of every phase of losses() in some parameters of every network that it moves."""
    weights = {phase: [weight_of(loss) for loss in made] for phase, made in losses().items()}

    def value(phase):
        return sum(w * float(loss) for w, loss in zip(weights[phase], losses()[phase], strict=True))

    for phase in model.phases:
        if not phase.moves:
            continue
        moved = model.moved(phase)
        backward(losses()[phase.name], parameters=moved)
        for p in moved[:: max(1, len(moved) // 6)]:  # of every network some: each takes a step a number
            numeric = numeric_gradient(p, lambda name=phase.name: [value(name)])
            np.testing.assert_allclose(p.backend.to_host(p.grad), numeric, atol=1e-6, rtol=1e-4, err_msg=phase.name)
