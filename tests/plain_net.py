"""A network in plain NumPy, against which tests make whole steps."""

import numpy as np


def sigmoid(v):
    return 1 / (1 + np.exp(-v))


class Net:
    """A network with one hidden layer of tanh, its gradients by hand and an update by plain SGD."""

    def __init__(self, state, name):
        parts = ("0.weight", "0.bias", "1.weight", "1.bias")
        self.w1, self.b1, self.w2, self.b2 = (state[f"{name}.{part}"].astype(np.float64) for part in parts)

    def __call__(self, h):
        a = np.tanh(h @ self.w1.T + self.b1)
        return a @ self.w2.T + self.b2

    def gradients(self, h, dy):
        """Of the parameters, in order, and of the input, by that of the output."""
        a = np.tanh(h @ self.w1.T + self.b1)
        da = dy @ self.w2 * (1 - a * a)
        return [da.T @ h, da.sum(0), dy.T @ a, dy.sum(0)], da @ self.w1

    def move(self, rate, *gradients):
        for p, *parts in zip((self.w1, self.b1, self.w2, self.b2), *gradients, strict=True):
            p -= rate * sum(parts)
