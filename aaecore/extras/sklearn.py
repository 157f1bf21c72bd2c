"""An adversarial autoencoder as a transformer of scikit-learn: `AAETransformer`.

It needs scikit-learn 1.6 or later.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import numpy as np

try:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.preprocessing import StandardScaler
    from sklearn.utils import check_array, check_random_state
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        f"aaecore.extras.sklearn needs scikit-learn 1.6 or later, pip install scikit-learn: {error}"
    ) from error

from ..arguments import count, shown
from ..models import AAE
from ..priors import HostSampler, Prior
from ..training.history import History
from ..training.recipe import rates_of
from ..training.trainer import Trainer

FLOATS = (np.float64, np.float32)
HEEDED = {"lr", "batch_size", "max_iter", "verbose"}  # by a model that is made


class AAETransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Codes of an adversarial autoencoder, whose distribution is that of a prior.

    Made for tables: columns of any scale, a linear output and squared errors of standardised columns. For data in
    [0, 1], images say, there is ``reconstruction="bce"``; a ``MinMaxScaler(clip=True)`` keeps rows in there that it was
    not fitted on, for which there would be no score otherwise.

    Args:
        n_components: features of a code.
        hidden: features of the hidden layers of the encoder; the decoder has them in reverse order.
        posterior: "deterministic", "gaussian" or "universal"; see `aaecore.AAE`, as of the next three.
        prior: an `aaecore.priors.Prior` or a callable f(n, rng); N(0, I) by default.
        reconstruction: "mse", or "bce" for data in [0, 1].
        output: "linear" or "sigmoid"; by default the one that suits the reconstruction.
        standardize: whether each column gets a mean of 0 and a variance of 1 by a scale of its own, as of the data of
            the first `fit` or `partial_fit`; by default with "mse", never with "bce". Reconstruction errors and scores
            are of these columns, so that all count alike. Without it `aaecore.AAE` does what it does by itself: its
            networks take x without its mean and by one scale for all columns, the largest of which count most.
        activation: of the hidden layers.
        generator_weight: of the generator's loss beside the reconstruction; see `aaecore.AAE`, as of the next one.
        gradient_penalty: of the discriminator; 0 for none.
        max_iter: epochs that `fit` makes.
        batch_size: rows of a step.
        lr: learning rates, a number or one per phase; those of `aaecore.Trainer` by default.
        device: "cpu", "cuda" or "cuda:<number>".
        random_state: an integer for equal results, a RandomState, or None.
        verbose: whether `fit` shows its progress on standard error.

    Attributes:
        model_: the `aaecore.AAE`.
        trainer_: the `aaecore.Trainer`, with which `partial_fit` goes on.
        scaler_: the `StandardScaler`, or None.
        history_: what training measured, a row per epoch.
        n_iter_: epochs made so far.
        n_features_in_, feature_names_in_: of the data, as everywhere in scikit-learn.
    """

    def __init__(
        self, n_components: int = 2, *, hidden: Sequence[int] = (100, 100), posterior: str = "deterministic",
        prior: Prior | HostSampler | None = None, reconstruction: str = "mse", output: str | None = None,
        standardize: bool | None = None, activation: str = "relu", generator_weight: float = 1.0,
        gradient_penalty: float = 3.0, max_iter: int = 200, batch_size: int = 100, lr: Any = None,
        device: str = "cpu", random_state: Any = None, verbose: bool = False,
    ) -> None:  # fmt: skip
        self.n_components = n_components
        self.hidden = hidden
        self.posterior = posterior
        self.prior = prior
        self.reconstruction = reconstruction
        self.output = output
        self.standardize = standardize
        self.activation = activation
        self.generator_weight = generator_weight
        self.gradient_penalty = gradient_penalty
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.lr = lr
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> Self:
        """Trains a new model on X (rows, features), `max_iter` epochs long.

        After an error or an interrupt everything is as it was before: fitted to older data, or not at all.

        Raises:
            ValueError, TypeError: bad data or a bad argument. FloatingPointError: a loss that is not finite.
        """
        with self._as_it_was_after_errors():
            x = self._data(X, reset=True)
            epochs = count("max_iter", self.max_iter)
            self._begin(x)
            return self._train(x, epochs)

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Trains for one more epoch, on X (rows, features): the first call makes the model.

        Later calls heed another `lr` and `batch_size`.

        Raises:
            ValueError, TypeError: bad data, a bad argument, or another one that only a new `fit` can heed.
            FloatingPointError: a loss that is not finite.
        """
        begun = hasattr(self, "trainer_")
        with self._as_it_was_after_errors():
            x = self._data(X, reset=not begun)
            if begun:
                self._heed()
            else:
                self._begin(x)
            return self._train(x, 1)

    def transform(self, X: Any) -> np.ndarray:
        """Codes (rows, n_components) of X (rows, features); float32 for float32, else float64."""
        check_is_fitted(self)
        x = self._data(X, reset=False)
        return self.model_.encode(self._scaled(x)).astype(x.dtype, copy=False)

    def inverse_transform(self, X: Any) -> np.ndarray:
        """What the decoder makes of codes (rows, n_components): (rows, features)."""
        check_is_fitted(self)
        z = check_array(X, dtype=FLOATS, input_name="X")
        x = self.model_.decode(z).astype(z.dtype, copy=False)
        return x if self.scaler_ is None else self.scaler_.inverse_transform(x)

    def score_samples(self, X: Any, by: str = "reconstruction") -> np.ndarray:
        """How normal each row is, (rows,), the higher the more; `by` as of `aaecore.AAE.score_samples`."""
        check_is_fitted(self)
        return self.model_.score_samples(self._scaled(self._data(X, reset=False)), by)

    def score(self, X: Any, y: Any = None) -> float:
        """The mean of `score_samples`, minus the reconstruction loss: what a search for parameters makes large."""
        return float(self.score_samples(X).mean())

    @property
    def history_(self) -> History:
        return self.trainer_.history

    @property
    def n_iter_(self) -> int:
        return self.trainer_.epoch

    @property
    def _n_features_out(self) -> int:
        """For the names that the mixin makes."""
        return self.model_.latent_dim

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _data(self, X: Any, *, reset: bool) -> np.ndarray:
        return validate_data(self, X, dtype=FLOATS, reset=reset)

    def _scaled(self, x: np.ndarray) -> np.ndarray:
        """What the networks see."""
        return x if self.scaler_ is None else self.scaler_.transform(x)

    def _begin(self, x: np.ndarray) -> None:
        if self.standardize not in (None, False, True) or (self.standardize and self.reconstruction == "bce"):
            expected = "True, False or None, and not True with reconstruction='bce', which needs data in [0, 1]"
            raise ValueError(f"standardize: expected {expected}, got {self.standardize!r}")
        scales = self.reconstruction != "bce" if self.standardize is None else self.standardize
        scaler = StandardScaler().fit(x) if scales else None
        output = self.output
        if output is None:
            output = "sigmoid" if self.reconstruction == "bce" else "linear"
        model = AAE(
            self.n_features_in_, count("n_components", self.n_components), self.hidden, posterior=self.posterior,
            prior=self.prior, reconstruction=self.reconstruction, output=output, activation=self.activation,
            generator_weight=self.generator_weight, gradient_penalty=self.gradient_penalty, device=self.device,
            seed=int(check_random_state(self.random_state).randint(2**31 - 1)),
        )  # fmt: skip
        trainer = Trainer(model, count("batch_size", self.batch_size), self.lr)
        self.scaler_, self.model_, self.trainer_ = scaler, model, trainer
        self._heeded = self.get_params(deep=False)

    def _heed(self) -> None:
        """Hands on the parameters that were set since the last call, or refuses them."""
        parameters = self.get_params(deep=False)
        changed = [name for name, value in parameters.items() if not _same(value, self._heeded[name])]
        for name in changed:
            if name not in HEEDED:
                expected = f"{shown(self._heeded[name])}, which the model was made with (only fit makes a new one)"
                raise ValueError(f"{name}: expected {expected}, got {shown(parameters[name])}")
        rows = count("batch_size", self.batch_size)
        if "lr" in changed:
            self.trainer_.lr = rates_of(self.trainer_.phases, self.lr)
        if "batch_size" in changed:
            self.trainer_.batch_size = rows
        self._heeded = parameters

    @contextmanager
    def _as_it_was_after_errors(self) -> Iterator[None]:
        before = self.__dict__.copy()
        try:
            yield
        except BaseException:  # an interrupt, too
            self.__dict__ = before
            raise

    def _train(self, x: np.ndarray, epochs: int) -> Self:
        self.trainer_.fit(self._scaled(x), more_epochs=epochs, progress=bool(self.verbose))
        return self


def _same(a: Any, b: Any) -> bool:
    """Whether two values of a parameter mean the same; sequences may be of any kind."""
    a, b = (list(value) if isinstance(value, tuple | np.ndarray) else value for value in (a, b))
    return a is b or bool(a == b)
