"""A generative adversarial network (Goodfellow et al. 2014, arXiv 1406.2661): a model outside the package."""

import math

from aaecore.functions import Tensor, adversarial_bce, concat
from aaecore.models import COUNT, COUNTS, Column, Model, Phase, model, option
from aaecore.priors import Normal


@model
class GAN(Model):
    input_dim: int = option(COUNT, "features of x", of_data=True)
    latent_dim: int = option(COUNT, "features of the noise", default=8)
    hidden: tuple[int, ...] = option(COUNTS, "features of the hidden layers", default=(256, 256))

    phases = (
        Phase("discriminator", moves=("discriminator",), equilibrium=2 * math.log(2), rate=2e-4, game=True),
        Phase("generator", moves=("decoder",), equilibrium=math.log(2), rate=2e-4, game=True),
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
        both = concat((batch.x, fake.detach()), axis=0)
        yield "discriminator", adversarial_bce(self.discriminator(both), real=len(batch))
        yield "generator", adversarial_bce(self.discriminator(fake), real=len(batch))

    def sample(self, n):
        self.sampler.advance()  # every call draws new noise
        return self.decoder(Tensor(self.draws["z"](self.sampler, n))).numpy()
