"""A least-squares generative adversarial network (Mao et al. 2017, arXiv 1611.04076): a model outside the package."""

from aaecore.functions import Tensor, half_squared_error
from aaecore.models import COUNT, COUNTS, Column, Model, Phase, model, option
from aaecore.priors import Normal


def filled(like, value):
    """A tensor of the shape of another one, with the same value everywhere."""
    out = like.backend.empty(like.shape)
    like.backend.launch("fill", (out,), (out.size,), (value,))
    return Tensor(out)


@model
class LeastSquaresGAN(Model):
    input_dim: int = option(COUNT, "features of x", of_data=True)
    latent_dim: int = option(COUNT, "features of the noise", default=8)
    hidden: tuple[int, ...] = option(COUNTS, "features of the hidden layers", default=(256, 256))

    phases = (
        Phase("discriminator", moves=("discriminator",), equilibrium=1 / 4, rate=2e-4, game=True),
        Phase("generator", moves=("decoder",), equilibrium=1 / 8, rate=2e-4, game=True),
    )

    def columns(self):
        return {"x": Column(self.input_dim, "unit")}

    def priors(self):
        return {"z": (Normal(), self.latent_dim)}

    def build(self):
        self.decoder = self.mlp(self.latent_dim, *self.hidden, self.input_dim, output="sigmoid")
        self.discriminator = self.mlp(self.input_dim, *self.hidden, 1)

    def step(self, batch):
        fake = self.decoder(batch.draw("z"))
        of_data, of_fake = self.discriminator(batch.x), self.discriminator(fake.detach())
        real, false = filled(of_data, 1.0), filled(of_data, 0.0)
        yield "discriminator", half_squared_error(of_data, real), half_squared_error(of_fake, false)
        yield "generator", half_squared_error(self.discriminator(fake), real)

    def sample(self, n):
        self.sampler.advance()  # every call draws new noise
        return self.decoder(Tensor(self.draws["z"](self.sampler, n))).numpy()
