"""Two differentiable functions of one's own, made of ops that every backend has: a loss and one that is none."""

from aaecore.functions import Function
from aaecore.functions.linear import activation_code

IDENTITY = activation_code("identity")


class SquaredNorm(Function):
    """weight / 2 times the squared length of z (B, N), a mean over the batch: a loss."""

    def __init__(self, z, weight):
        super().__init__(z)
        self.z, self.weight = z, weight

    def forward(self):
        backend = self.z.backend
        origin, self.seed, value = backend.empty(self.z.shape), backend.empty(self.z.shape), backend.empty((1,))
        backend.launch("fill", (origin,), (origin.size,), (0.0,))
        buffers = (self.z.buffer, origin, self.seed, value)
        backend.launch("half_squared_error", buffers, (*self.z.shape, IDENTITY), (0.0, self.weight))
        return self.result(value)

    def backward(self, gradient, gradients):
        gradients.give(self.z, gradient, before_activation=False)


class Difference(Function):
    """factor * (a - b), of a and b of one shape."""

    def __init__(self, a, b, factor):
        super().__init__(a, b)
        self.a, self.b, self.factor = a, b, factor

    def forward(self):
        launch, out = self.a.backend.launch, self.a.backend.empty(self.a.shape)
        launch("copy", (self.b.buffer, out), (out.size, 0))
        launch("scale", (out,), (out.size,), (-1.0,))
        launch("copy", (self.a.buffer, out), (out.size, 1))  # 1 adds to what is there
        launch("scale", (out,), (out.size,), (self.factor,))
        return self.result(out)

    def backward(self, gradient, gradients):
        for tensor, factor in ((self.a, self.factor), (self.b, -self.factor)):
            if gradients.needs(tensor):
                part = tensor.backend.empty(tensor.shape)
                tensor.backend.launch("copy", (gradient, part), (part.size, 0))
                tensor.backend.launch("scale", (part,), (part.size,), (factor,))
                gradients.give(tensor, part, before_activation=False)


def squared_norm(z, weight=1.0):
    return SquaredNorm(z, weight).forward()


def difference(a, b, factor=1.0):
    return Difference(a, b, factor).forward()
