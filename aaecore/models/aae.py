"""The adversarial autoencoder (Makhzani et al. 2015, arXiv 1511.05644) and the phases of one training step.

Start reading here. A step on a mini-batch x is three phases, each a loss, the parameters it moves and their optimizer:

    reconstruction   z = encode(x); L = distance(decode(z), x)                        moves encoder and decoder
    discriminator    z+ ~ prior; z- = encode(x); L = bce(D(z+), 1) + bce(D(z-), 0)    moves D
    generator        L = bce(D(encode(x)), 1)                                         moves the encoder

The last two share one forward pass of the encoder, whose weights have not changed in between. `Trainer` runs them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from .. import arguments, nn, priors
from ..arguments import choice, count, counts
from ..backends.devices import get_backend
from ..core.random import Generator
from ..data.rows import CHUNK, Rows, as_rows, map_chunks, to_floats
from ..functions import activation_code, adversarial_bce, bce_with_logits, concat, half_squared_error
from ..functions.tensor import Parameter, Tensor
from .posteriors import POSTERIORS

RECONSTRUCTIONS = ("bce", "mse")
OUTPUTS = {"sigmoid": "sigmoid", "linear": "identity"}


class Batch:
    """What the phases of one step share: the data, the prior sample, and the codes once the encoder made them."""

    def __init__(self, x: Tensor, z_prior: Tensor) -> None:
        self.x = x
        self.z_prior = z_prior
        self.codes: Tensor | None = None


@dataclass(frozen=True)
class Phase:
    """One update of a training step."""

    name: str
    parameters: Sequence[Parameter]
    loss: Callable[[Batch], Tensor]


def network_sizes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Features from input to output of each network, from `AAE.config`."""
    posterior = POSTERIORS[config["posterior"]](config["latent_dim"], config["noise_dim"])
    hidden = tuple(config["hidden"])
    return {
        "encoder": (posterior.inputs(config["input_dim"]), *hidden, posterior.outputs()),
        "decoder": (config["latent_dim"], *reversed(hidden), config["input_dim"]),
        "discriminator": (config["latent_dim"], *config["discriminator_hidden"], 1),
    }


class AAE:
    """An adversarial autoencoder of fully connected networks.

    Args:
        input_dim: features of x.
        latent_dim: features of the code z.
        hidden: features of the hidden layers of the encoder; the decoder has them in reverse order.
        posterior: "deterministic", "gaussian" (re-parameterised) or "universal" (noise beside x).
        prior: p(z), a `priors.Prior` or a callable f(n, rng) -> (n, latent_dim); N(0, I) by default.
        reconstruction: "bce" (Bernoulli cross-entropy; x in [0, 1]) or "mse" (half squared error); both are summed over
            features and averaged over the batch.
        output: what decode gives: "sigmoid" or "linear". "bce" needs sigmoid.
        activation: of the hidden layers: relu, leaky_relu, sigmoid or tanh.
        discriminator_hidden: features of the discriminator's hidden layers; those of the encoder by default.
        noise_dim: features of the noise of the universal posterior; latent_dim by default.
        precision: "fp32", or "bf16" for matrix products of bfloat16 factors with float32 sums; weights, their updates
            and all the rest are float32 either way. Fast on a GPU and where the CPU has AVX512_BF16, slow elsewhere.
            "tf32", on a GPU only, rounds the factors to 11 significant bits.
        device: "cpu", "cuda" or "cuda:<number>" for a GPU through CuPy, or "reference" for float64 NumPy.
        seed: of the initial weights and of all noise. Equal seeds give equal bits.

    Raises:
        ValueError, TypeError: a bad argument. DeviceError: a device this machine does not have.
    """

    def __init__(
        self,
        input_dim: int,
        latent_dim: int,
        hidden: Sequence[int] = (1000, 1000),
        posterior: str = "deterministic",
        prior: priors.Prior | priors.HostSampler | None = None,
        reconstruction: str = "bce",
        *,
        output: str = "sigmoid",
        activation: str = "relu",
        discriminator_hidden: Sequence[int] | None = None,
        noise_dim: int | None = None,
        precision: str = "fp32",
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        self.input_dim = count("input_dim", input_dim)
        self.latent_dim = count("latent_dim", latent_dim)
        self.hidden = counts("hidden", hidden)
        given = self.hidden if discriminator_hidden is None else discriminator_hidden
        self.discriminator_hidden = counts("discriminator_hidden", given)
        self.posterior_name = choice("posterior", posterior, tuple(POSTERIORS))
        self.reconstruction = choice("reconstruction", reconstruction, RECONSTRUCTIONS)
        self.output = choice("output", output, tuple(OUTPUTS))
        if (self.reconstruction, self.output) == ("bce", "linear"):
            raise ValueError(
                "output: reconstruction='bce' works on the logits of a sigmoid and needs 'sigmoid', got 'linear'"
            )
        activation_code(activation)
        self.activation = activation
        self.noise_dim = count("noise_dim", latent_dim if noise_dim is None else noise_dim)
        self.precision = precision
        self.seed = arguments.seed(seed)
        self.prior = priors.as_prior(priors.Normal() if prior is None else prior)
        self.backend = get_backend(device)
        self._build()

    def _build(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.posterior = POSTERIORS[self.posterior_name](self.latent_dim, self.noise_dim)
        sizes = network_sizes(self.config())
        # The cross-entropy works on logits, so its decoder has no output activation; `decode` applies the sigmoid.
        decoder_output = OUTPUTS[self.output] if self.reconstruction == "mse" else "identity"
        outputs = {"encoder": "identity", "decoder": decoder_output, "discriminator": "identity"}
        self.encoder, self.decoder, self.discriminator = (
            nn.MLP(self.backend, sizes[name], self.activation, output, self.precision, rng=rng)
            for name, output in outputs.items()
        )
        self.loads = 0  # how often weights came from outside; a trainer that can go back must notice
        self.draw_prior = self.prior.bind(self.backend, self.latent_dim)
        self.generator = Generator(self.backend, self.seed)  # of training; its counter is the step
        self._sampler = Generator(self.backend, self.seed, first=1 << 16)  # of encode(sample=True) and sample()

    # --- one training step ------------------------------------------------------------------------

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases of one training step, in order."""
        autoencoder = [*self.encoder.parameters, *self.decoder.parameters]
        return (
            Phase("reconstruction", autoencoder, self.reconstruction_loss),
            Phase("discriminator", self.discriminator.parameters, self.discriminator_loss),
            Phase("generator", self.encoder.parameters, self.generator_loss),
        )

    def code(self, x: Tensor) -> Tensor:
        """A draw of q(z|x) on the device, with history."""
        return self.posterior.code(self.encoder, x, self.generator, sample=True)

    def reconstruction_loss(self, batch: Batch) -> Tensor:
        """Phase 1: the distance between x and what the decoder makes of its code."""
        decoded = self.decoder(self.code(batch.x))
        distance = bce_with_logits if self.reconstruction == "bce" else half_squared_error
        return distance(decoded, batch.x)

    def discriminator_loss(self, batch: Batch) -> Tensor:
        """Phase 2a: prior samples are real, codes are not. The codes are kept for phase 2b."""
        batch.codes = self.code(batch.x)
        both = concat((batch.z_prior, batch.codes.detach()), axis=0)
        return adversarial_bce(self.discriminator(both), real=batch.z_prior.shape[0])

    def generator_loss(self, batch: Batch) -> Tensor:
        """Phase 2b: the encoder moves so that the discriminator takes its codes for real (non-saturating)."""
        codes = batch.codes if batch.codes is not None else self.code(batch.x)
        return adversarial_bce(self.discriminator(codes), real=codes.shape[0])

    # --- using a model ----------------------------------------------------------------------------

    # Arrays of NumPy in, arrays of NumPy out; on a GPU also arrays of the device in, arrays of CuPy out.

    def encode(self, x: Any, *, sample: bool = False) -> Any:
        """Codes of x: (N, input_dim), float or uint8 (scaled by 1/255), gives (N, latent_dim) float32.

        Without `sample` the centre of the posterior: the mean of a Gaussian, f(x, 0) of a universal one.
        """

        def code(chunk: Tensor) -> Tensor:
            if sample:
                self._sampler.advance()
            return self.posterior.code(self.encoder, chunk, self._sampler, sample=sample)

        return map_chunks(self.backend, code, self.check_data(x, "x"), self.latent_dim)

    def decode(self, z: Any) -> Any:
        """What the decoder makes of codes: (N, latent_dim) gives (N, input_dim) float32, looking like the data."""
        rows = as_rows(self.backend, z, "z", self.latent_dim, pixels=False)
        decode = partial(self.decoder, output=OUTPUTS[self.output])
        return map_chunks(self.backend, decode, rows, self.input_dim)

    def reconstruct(self, x: Any) -> Any:
        """decode(encode(x))."""
        return self.decode(self.encode(x))

    def sample(self, n: int, *, on_device: bool = False) -> Any:
        """(n, input_dim): decoded samples of the prior, an array of the device if asked. Every call draws new ones."""
        return self.decode(self.sample_prior(n, on_device=on_device))

    def sample_prior(self, n: int, *, on_device: bool = False) -> Any:
        """(n, latent_dim) samples of the prior, as an array of the device if asked. Every call draws new ones."""
        self._sampler.advance()
        z = self.draw_prior(self._sampler, count("n", n))
        if on_device:
            return self.backend.array(z)
        return self.backend.to_host(z).astype(np.float32, copy=False)

    def evaluate(self, x: Any) -> float:
        """The mean reconstruction loss over x (N, input_dim), codes at the centre of their posterior."""
        rows = self.check_data(x, "x")
        total = 0.0
        for start in range(0, len(rows), CHUNK):
            chunk = Tensor(to_floats(self.backend, rows, start, min(start + CHUNK, len(rows))))
            decoded = self.decoder(self.posterior.code(self.encoder, chunk, self._sampler, sample=False))
            distance = bce_with_logits if self.reconstruction == "bce" else half_squared_error
            total += float(distance(decoded, chunk)) * chunk.shape[0]
        return total / len(rows)

    def check_data(self, x: Any, name: str) -> Rows:
        """`x` as (N, input_dim) float32 or uint8 rows, or one clear error."""
        return as_rows(self.backend, x, name, self.input_dim, unit_range=self.reconstruction == "bce")

    # --- state ------------------------------------------------------------------------------------

    @property
    def parameters(self) -> dict[str, Parameter]:
        """All parameters by name: "encoder.0.weight" (out, in), "encoder.0.bias", ..., "discriminator.2.bias"."""
        networks = {"encoder": self.encoder, "decoder": self.decoder, "discriminator": self.discriminator}
        return {k: p for name, net in networks.items() for k, p in net.named_parameters(f"{name}.").items()}

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters by name."""
        return nn.state_dict(self.parameters)

    def load_state_dict(self, values: Mapping[str, np.ndarray]) -> None:
        """Sets all parameters; ValueError, and nothing changed, if names or shapes differ or a value is not finite."""
        nn.load_state_dict(self.parameters, values)
        self.loads += 1

    def config(self) -> dict[str, Any]:
        """What `from_config` makes an equal, freshly initialised model of."""
        return {
            "input_dim": self.input_dim, "latent_dim": self.latent_dim, "hidden": list(self.hidden),
            "posterior": self.posterior_name, "prior": self.prior.config(), "reconstruction": self.reconstruction,
            "output": self.output, "activation": self.activation,
            "discriminator_hidden": list(self.discriminator_hidden), "noise_dim": self.noise_dim,
            "precision": self.precision, "device": self.backend.name, "seed": self.seed,
        }  # fmt: skip

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, prior: priors.Prior | priors.HostSampler | None = None) -> AAE:
        """The model that `config` described; `prior` replaces one that was a callable.

        Raises:
            ValueError: missing, unknown or bad options.
        """
        options = dict(config)
        try:
            options["prior"] = priors.as_prior(prior) if prior is not None else priors.from_config(options["prior"])
            return cls(**options)
        except (TypeError, KeyError) as error:
            raise ValueError(f"config: {error}") from None
