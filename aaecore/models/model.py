"""What training needs of a model: options, networks, the data that it takes, and one training step.

A model is a class of options with two methods. `build` makes its networks, as attributes. `step` is one training step
in the words of its paper: a generator that yields each loss, which is minimised before the next line runs. Four rules:
what changes between steps is a dial, never an `if`; nothing changes before the first yield; draws come in a fixed
order; whoever trains gives random numbers to a network that wants some, whoever evaluates gives none.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, MISSING, dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np

from .. import nn
from ..arguments import reals, shown
from ..backends.devices import get_backend
from ..core.backend import Backend
from ..core.memory import Writes
from ..core.ops import ACTIVATIONS
from ..core.owner import Owner
from ..core.random import Generator
from ..data.rows import Rows, as_rows
from ..data.table import LABEL, Column, Stream, Table
from ..functions.tensor import Parameter, Tensor
from ..options import SEED, TEXT, checked, declared, one_of, option
from ..priors import KINDS, Draws, HostSampler, Prior, as_prior, from_config
from . import registry
from .batch import Batch
from .phase import Phase, check_columns, check_phases

# Of every model, besides its options and its networks.
_MADE = {"backend", "generator", "sampler", "owner", "writes", "phases", "streams"}

Losses = tuple[Any, ...]  # ("phase", loss, ...): several losses of a phase are added


@dataclass(eq=False, repr=False)
class Model(ABC):
    """The base: everything about a model that does not depend on which one it is.

    A model can be copied, and pickled: its options, the values of its parameters and the states of its random numbers
    go along as plain values, so that the copy gives the same bits. A callable prior must be one that can be pickled.

    Attributes:
        networks: by name; each is an attribute too (`model.encoder`).
        parameters: of all networks by name, such as "encoder.0.weight".
        phases: the updates of a training step.
        backend: the device; `Tensor(model.backend.from_host(array))` brings an array there.
        generator: random numbers of training; `sampler`: those of everything else.
        seed, device, ...: every option has the value that it got, and `seed` the number that was drawn for None.
    """

    phases: ClassVar[tuple[Phase, ...]]
    streams: ClassVar[Mapping[str, Stream]] = {"": Stream(("x",))}

    _: KW_ONLY
    activation: str = option(one_of(*ACTIVATIONS), "of the hidden layers", default="relu")
    precision: str = option(TEXT, "of the matrix products: fp32, bf16, or tf32 on a GPU", default="fp32")
    init: str = option(
        one_of(*nn.INITS), "of the weights: uniform as in PyTorch, normal (std 0.01) as in the paper, or he",
        default="uniform",
    )  # fmt: skip
    device: str = option(TEXT, "cpu, cuda or cuda:<number> for a GPU, or reference for float64 NumPy", default="cpu")
    # Any: None is taken too, which draws a seed; a finished model has a number.
    seed: int | Any = option(SEED, "of weights, noise and the order of the data", default=0)  # noqa: RUF009

    def __post_init__(self) -> None:
        kind = type(self)
        if self.seed is None:
            self.seed = int.from_bytes(os.urandom(8), "little") >> 1
        if registry.MODELS.get(kind.__name__) is not kind:
            raise TypeError(f"{kind.__name__}: expected a class that @model makes a model, or no checkpoint would load")
        options = declared(self)
        for name, value in checked(options, {name: getattr(self, name) for name in options}).items():
            setattr(self, name, value)
        self.complete()
        self.backend = vars(self).get("backend") or get_backend(self.device)
        self.owner = Owner()
        self.part_of = ""  # the kind of model that keeps it as a copy, which stays as it is
        self.begun = False  # whether `begin` has nothing to do any more
        self._initial = np.random.default_rng(self.seed)
        self.build()
        self._check()
        for prior, dim in self.priors().values():
            prior.check_dim(dim)
        self.generator = Generator(self.backend, self.seed)  # of training; its counter is the step
        self.sampler = Generator(self.backend, self.seed, first=1 << 16)  # of everything else
        self.writes = Writes()  # a trainer that can go back must notice what others change
        for buffer in (*(t.buffer for t in self.tensors.values()), self.generator.state):
            buffer.writes = self.writes
        self.untouched = self.writes.count  # of weights that nobody changed
        self._made = {"_made", "draws", *vars(self)}  # attributes that a copy makes anew

    def __setattr__(self, name: str, value: Any) -> None:
        if "_made" in self.__dict__ and (name in declared(self) or name in _MADE or name in self.networks):
            kind = type(self).__name__
            raise AttributeError(f"{name}: a finished model keeps it; make another model: {kind}(..., {name}=...)")
        super().__setattr__(name, value)

    # --- what a model says of itself ----------------------------------------------------------------

    @abstractmethod
    def columns(self) -> dict[str, Column]:
        """The columns of the data; "x" is one of them, and labels are in "y"."""

    @abstractmethod
    def build(self) -> None:
        """Makes the networks, as attributes."""

    @abstractmethod
    def step(self, batch: Batch) -> Iterator[Losses]:
        """One training step: yields (phase, loss, ...) for each of the phases, in order."""

    def complete(self) -> None:  # noqa: B027 (a hook)
        """Fills in options that depend on others, and refuses those that do not go together."""

    def priors(self) -> dict[str, tuple[Prior, int]]:
        """What `Batch.draw` draws of, by name, and how many features it has."""
        return {}

    def dials(self) -> dict[str, Callable[[int], float]]:
        """Scalars of a step by name, each a pure function of the steps made before it; see `Batch.dial`."""
        return {}

    def as_classes(self, y: Any, name: str, *, first: bool = False) -> Any:
        """The classes that a user's labels stand for, to be checked; see `labelled.Labelled`."""
        return y

    def forget_labels(self) -> None:  # noqa: B027 (a hook)
        """Calls the classes as nobody has yet: the fit that named them failed."""

    def keep_labels(self, y: Any, *, first: bool) -> None:  # noqa: B027 (a hook)
        """Calls the classes as in `y`, checked labels that it learns from; in a `first` look there may be new ones."""

    def begin(self, x: Rows, moving: Collection[str]) -> None:
        """Takes from the first rows to train on what the model must know of data.

        Called before every fit and step that moves something, until `begun`; `moving` has the names of the networks.
        """
        self.begun = True

    def forget(self) -> None:  # noqa: B027 (a hook)
        """Takes data as they are from now on."""

    def ratios(self) -> dict[str, tuple[float, str, str]]:
        """Dials that are a number times the rate of one phase by that of another: (number, phase, phase) by name."""
        return {}

    def rate_factors(self) -> dict[str, Callable[[int], float]]:
        """Factors of learning rates by phase, >= 0, each a pure function of the steps made before it.

        With 0 a phase waits: nothing moves, and its optimizer's moments are ready when it goes on.
        """
        return {}

    def settle(self, batch: Batch) -> None:  # noqa: B027 (a hook)
        """Launches what follows the last update of a step: averages of weights, moments of batches."""

    def refresh(self, x: Rows) -> None:  # noqa: B027 (a hook)
        """Renews statistics that only evaluation uses, at the end of an epoch; `x` are the rows that it trained on."""

    def validate(self, table: Table) -> dict[str, float]:
        """What the history says of data that are not trained on; nothing by default."""
        return {}

    def health(self, x: Rows) -> dict[str, float]:
        """What the history says now and then of rows that are trained on; nothing by default."""
        return {}

    def advice(self, row: Mapping[str, Any]) -> str:
        """What a row of the history means in words, where something is wrong; nothing by default."""
        return ""

    # --- what follows from it -----------------------------------------------------------------------

    def _check(self) -> None:
        """ValueError for phases, streams and columns that training would stumble over."""
        between = {dial: phases for dial, (_, *phases) in self.ratios().items()}
        check_phases(getattr(self, "phases", ()), self.networks, between, self.rate_factors())
        check_columns(self.columns(), self.streams)

    def mlp(self, *sizes: int, output: str = "identity", **settings: Any) -> nn.MLP:
        """A network of the model's activation, precision and init; its weights are the next ones that the seed gives.

        `settings` are those of `nn.MLP`: batch_norm, noise, dropout, last.
        """
        return nn.MLP(
            self.backend, sizes, self.activation, output, self.precision, rng=self._initial, init=self.init, **settings
        )  # fmt: skip

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The networks, by the names of their attributes."""
        return {name: value for name, value in vars(self).items() if isinstance(value, nn.Module)}

    @cached_property
    def draws(self) -> Draws:
        """Samplers of the priors on the model's backend."""
        label = self.columns().get(LABEL)
        return Draws(self.backend, self.priors(), label.classes if label else None)

    def moved(self, phase: Phase) -> list[Parameter]:
        """The parameters that a phase moves."""
        return [p for name in phase.moves for p in self.networks[name].parameters]

    def check_data(self, x: Any, name: str, *, whole: bool = False) -> Rows:
        """`x` as float32 or uint8 rows of the column "x", or one clear error; `whole` for a data set, see `as_rows`."""
        column = self.columns()["x"]
        return as_rows(self.backend, x, name, column.features, **column.demands(), whole=whole)

    @property
    def parameters(self) -> dict[str, Parameter]:
        """All parameters by name: "encoder.0.weight" (out, in), "encoder.0.bias", ..."""
        return {k: p for name, net in self.networks.items() for k, p in net.named_parameters(f"{name}.").items()}

    @property
    def statistics(self) -> dict[str, Tensor]:
        """What the networks know of the data and no step moves, by name, such as "inputs.mean"."""
        return {k: t for name, net in self.networks.items() for k, t in net.named_statistics(f"{name}.").items()}

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Parameters and statistics by name: what a file holds of the networks."""
        return {**self.parameters, **self.statistics}

    def check_statistics(self, values: Mapping[str, Any]) -> None:
        """ValueError for statistics by name that the networks cannot have; those that are absent are not looked at."""
        for name, net in self.networks.items():
            own = net.named_statistics(f"{name}.")
            if own and all(key in values and np.shape(values[key]) == t.shape for key, t in own.items()):
                net.check(f"{name}.", {key: reals(key, values[key]) for key in own})

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters and statistics by name, after a whole step.

        While another thread trains, it waits for one.

        Raises:
            RuntimeError: it was called in the middle of a step, by a handler of a signal.
        """
        with self.owner.looking("state_dict"), self.backend.unrecorded():
            return nn.state_dict(self.tensors)

    def load_state_dict(self, values: Mapping[str, np.ndarray]) -> None:
        """Sets all parameters and statistics.

        Without the statistics, of weights that were made elsewhere, data and codes are taken as they are.

        Raises:
            ValueError: names or shapes differ, or a value is not finite; nothing is changed.
            RuntimeError: another thread trains the model, or it was called in the middle of a step.
        """
        with self.owner.setting("load_state_dict"):
            units = {n for k, net in self.networks.items() if net.optional for n in net.named_statistics(f"{k}.")}
            missing = isinstance(values, Mapping) and bool(units) and not units & set(values)
            wanted = {name: t for name, t in self.tensors.items() if not (missing and name in units)}
            nn.load_state_dict(wanted, values, self.check_statistics)
            self.untouched, self.begun = self.writes.count, False
            if missing:
                self.forget()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes options and parameters to a file, for `aaecore.load`: a third of a trainer's checkpoint, or less.

        Raises:
            CheckpointError: the file could not be written; an old one is intact.
        """
        from ..files import checkpoint  # json and hashlib are slow to import

        tensors = {f"model/{name}": value for name, value in self.state_dict().items()}
        checkpoint.write(path, tensors, {"model": self.config()})

    def config(self) -> dict[str, Any]:
        """What `from_config` makes an equal, freshly initialised model of."""
        plain = {name: getattr(self, name) for name in declared(self)}
        plain["device"] = self.backend.name
        for name, value in plain.items():
            if isinstance(value, Prior | Model):
                plain[name] = value.config()
            elif isinstance(value, tuple):
                plain[name] = list(value)
        return {"type": type(self).__name__, **plain}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, prior: Prior | HostSampler | None = None) -> Self:
        """The model that `config` described; `prior` replaces one that was a callable.

        Raises:
            ValueError: another model, or missing, unknown or bad options.
        """
        made = from_description(config, prior=prior)
        if not isinstance(made, cls):
            raise ValueError(f"config: expected one of {cls.__name__}, got one of {type(made).__name__}")
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        options = {name: getattr(self, name) for name in declared(self)} | {"device": self.backend.name}
        added = {name: value for name, value in vars(self).items() if name not in self._made}
        with self.owner.looking("copy"):
            states = [self.backend.to_host(rng.state) for rng in (self.generator, self.sampler)]
            return _copied, (type(self), options, self.state_dict(), states, added)

    def __repr__(self) -> str:
        """What was chosen, then the networks: "encoder 784-1000-1000-8"."""
        # In the order of the arguments.
        options = sorted(declared(self).items(), key=lambda item: bool(item[1].kw_only))
        chosen = [
            f"{name}={_short(value)}"
            for name, key in options
            if (value := getattr(self, name)) != key.default or name == "seed"
        ]
        sizes = {name: sum(p.buffer.size for p in net.parameters) for name, net in self.networks.items()}
        width = max(map(len, sizes), default=0)
        lines = [f"  {n:<{width}}  {self.networks[n]!r}, {size:,} parameters" for n, size in sizes.items() if size]
        total = f"  {sum(sizes.values()):,} parameters in all, {self.precision} on {self.backend.name}"
        return "\n".join([f"{type(self).__name__}({', '.join(chosen)})", *lines, total])


def _short(value: Any) -> str:
    """Of what is long its name is enough."""
    text = repr(value)
    return text if len(text) <= 80 else f"{type(value).__name__}(...)"


def _copied(
    kind: type[Model], options: Mapping[str, Any], values: Mapping[str, np.ndarray], states: Sequence[np.ndarray],
    added: Mapping[str, Any],
) -> Model:  # fmt: skip
    """The model that `Model.__reduce__` took apart."""
    registry.MODELS.setdefault(kind.__name__, kind)  # of a class that came along, from a notebook to another process
    made = kind(**options)
    for name, p in made.tensors.items():
        made.backend.upload(p.buffer, values[name])
    for rng, state in zip((made.generator, made.sampler), states, strict=True):
        made.backend.upload(rng.state, state)
    for name, value in added.items():
        setattr(made, name, value)
    made.untouched = made.writes.count
    return made


def from_description(
    config: Mapping[str, Any], *, prior: Prior | HostSampler | None = None, device: str | None = None,
    backend: Backend | None = None,
) -> Model:  # fmt: skip
    """The model that `Model.config` described, freshly initialised; perhaps with another prior, or on another device.

    With `backend`, that of another model, it lives there, and `device` is its name. Where that device does not have the
    model's precision, it is "fp32". No code is loaded: the model's module must have
    been imported.

    Raises:
        ValueError: no such model, or missing, unknown or bad options.
    """
    options = dict(config)
    kind: type[Model] = registry.named(options.pop("type", registry.OLDEST))
    try:
        for name, key in declared(kind).items():
            if name not in options and key.metadata["old"] is not MISSING:
                options[name] = key.metadata["old"]
            if key.metadata["kind"] in KINDS and name not in options:
                raise ValueError(f"config: expected {name!r} in what describes {kind.__name__}, got {shown(options)}")
            if key.metadata["kind"] in KINDS and options[name] is not None:
                if prior is not None and (name == "prior" or options[name]["type"] == "callable"):
                    options[name] = as_prior(prior)
                else:
                    options[name] = from_config(options[name])
        if device is not None:
            options["device"] = device
            if options["precision"] not in (backend or get_backend(device)).precisions:
                options["precision"] = "fp32"  # the weights are of float32 in every precision
        made = kind.__new__(kind)
        if backend is not None:
            made.backend = backend
        made.__init__(**options)  # type: ignore[misc]
        return made
    except (TypeError, KeyError) as error:
        raise ValueError(f"config: {error}") from None
