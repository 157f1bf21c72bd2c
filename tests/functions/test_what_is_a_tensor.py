"""An array where a Tensor belongs is one clear error, which says how to make one."""

import numpy as np
import pytest
from trained import model, rows

from aaecore import Tensor, functions, get_backend
from aaecore.functions import Function, Parameter, backward
from aaecore.random import Generator

BACKEND = get_backend("cpu")
X = np.ones((3, 4), np.float32)


def tensor(shape=(3, 4)):
    return Tensor(BACKEND.from_host(np.ones(shape)))


class Copy(Function):
    def forward(self):
        return self.result(self.inputs[0].buffer)

    def backward(self, gradient, gradients):
        gradients.give(self.inputs[0], gradient, before_activation=False)


WRONG = {
    "network": lambda: model().encoder(rows()),
    "layer": lambda: model().encoder.layers[0](rows()),
    "linear": lambda: functions.linear(tensor(), X, tensor((3,))),
    "concat": lambda: functions.concat((tensor(), X)),
    "half_squared_error": lambda: functions.half_squared_error(X, tensor()),
    "bce_with_logits": lambda: functions.bce_with_logits(tensor(), X),
    "adversarial_bce": lambda: functions.adversarial_bce(X[:, :1], real=3),
    "weighted": lambda: functions.weighted(functions.half_squared_error(tensor(), tensor()), X[:1, 0]),
    "gaussian_kl": lambda: functions.gaussian_kl(X),
    "gaussian_negative_entropy": lambda: functions.gaussian_negative_entropy(X),
    "gaussian_sample": lambda: functions.gaussian_sample(X, BACKEND.empty((3, 2))),
    "mixture_nll": lambda: functions.mixture_nll(X, (None, BACKEND.empty((2, 4)), None)),
    "one's own": lambda: Copy(X),
    "backward": lambda: backward([X]),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_array_is_refused_in_one_line(name):
    with pytest.raises(
        TypeError, match=r"^\w+: expected a Tensor, got numpy\.ndarray; Tensor\(backend\.from_host\(array"
    ):
        WRONG[name]()


def test_a_tensor_is_made_of_a_buffer():
    with pytest.raises(TypeError, match=r"^buffer: expected a Buffer, got numpy\.ndarray; backend\.from_host\(array\)"):
        Tensor(X)
    with pytest.raises(TypeError, match="buffer: expected a Buffer, got list"):
        Parameter([1.0])
    m = model()
    codes = m.encoder(Tensor(m.backend.from_host(rows()))).numpy()
    assert np.array_equal(codes, m.encode(rows()))


def test_random_numbers_of_the_device_are_public():
    draws = [BACKEND.to_host(Generator(BACKEND, 3).normal((2, 2))) for _ in range(2)]
    assert np.array_equal(*draws)
