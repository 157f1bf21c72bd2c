"""An adversarial autoencoder as a transformer of scikit-learn: `AAETransformer`.

It needs scikit-learn 1.6 or later.
"""

from __future__ import annotations

from collections.abc import Sequence
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

from ..arguments import count
from ..models import AAE
from ..priors import HostSampler, Prior
from ..training.history import History
from ..training.trainer import Trainer

FLOATS = (np.float64, np.float32)


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
        standardize: whether the networks see columns of mean 0 and variance 1, as of the data of the first `fit` or
            `partial_fit`; by default with "mse", never with "bce". Scores are of what the networks see.
        activation: of the hidden layers.
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
        standardize: bool | None = None, activation: str = "relu", max_iter: int = 200, batch_size: int = 100,
        lr: Any = None, device: str = "cpu", random_state: Any = None, verbose: bool = False,
    ) -> None:  # fmt: skip
        self.n_components = n_components
        self.hidden = hidden
        self.posterior = posterior
        self.prior = prior
        self.reconstruction = reconstruction
        self.output = output
        self.standardize = standardize
        self.activation = activation
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.lr = lr
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> Self:
        """Trains a new model on X (rows, features), `max_iter` epochs long.

        Raises:
            ValueError, TypeError: bad data or a bad argument. FloatingPointError: a loss that is not finite.
        """
        x = self._data(X, reset=True)
        self._begin(x)
        return self._train(x, count("max_iter", self.max_iter))

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Trains for one more epoch, on X (rows, features): the first call makes the model."""
        begun = hasattr(self, "trainer_")
        x = self._data(X, reset=not begun)
        if not begun:
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
        self.scaler_ = StandardScaler().fit(x) if scales else None
        output = self.output
        if output is None:
            output = "sigmoid" if self.reconstruction == "bce" else "linear"
        self.model_ = AAE(
            self.n_features_in_, count("n_components", self.n_components), self.hidden, posterior=self.posterior,
            prior=self.prior, reconstruction=self.reconstruction, output=output, activation=self.activation,
            device=self.device, seed=int(check_random_state(self.random_state).randint(2**31 - 1)),
        )  # fmt: skip
        rates = {} if self.lr is None else {"lr": self.lr}
        self.trainer_ = Trainer(self.model_, count("batch_size", self.batch_size), **rates)

    def _train(self, x: np.ndarray, epochs: int) -> Self:
        self.trainer_.fit(self._scaled(x), more_epochs=epochs, progress=bool(self.verbose))
        return self
