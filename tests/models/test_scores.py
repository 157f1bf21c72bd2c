"""A number for each row: reconstruction losses, and how normal a row is."""

import numpy as np
import pytest
from trained import model, rows

from aaecore import AAE, VAE, Trainer
from aaecore.functions import half_squared_error
from aaecore.models import model as model_class


@pytest.mark.parametrize("device", ["cpu", "reference"])
@pytest.mark.parametrize(
    "options", [{}, {"reconstruction": "mse"}, {"reconstruction": "mse", "output": "linear", "posterior": "universal"}]
)
def test_losses_of_rows_have_the_mean_that_evaluate_gives(options, device):
    made, x = model(device=device, **options), np.tile(rows(), (9, 1))  # more than one chunk
    losses = made.evaluate(x, reduction="none")
    assert (losses.shape, losses.dtype) == ((1170,), np.float64)
    assert losses.mean() == pytest.approx(made.evaluate(x), rel=1e-6)
    assert losses[7] == pytest.approx(made.evaluate(x[7:8]), rel=1e-6)
    assert np.array_equal(made.score_samples(x), -losses)


def test_losses_of_rows_by_their_formula():
    made, x = model(reconstruction="mse"), rows()
    np.testing.assert_allclose(made.evaluate(x, "none"), ((made.reconstruct(x) - x) ** 2).sum(1) / 2, rtol=1e-5)
    made = model()
    y = made.reconstruct(x).astype(np.float64)
    np.testing.assert_allclose(made.evaluate(x, "none"), -(x * np.log(y) + (1 - x) * np.log(1 - y)).sum(1), rtol=1e-5)


def test_losses_of_rows_follow_a_distance_of_ones_own():
    @model_class
    class Thrice(AAE):
        def distance(self, decoded, x):
            return half_squared_error(decoded, x, 3.0)

    made, x = Thrice(20, 3, (33, 17), reconstruction="mse", seed=1), rows()
    np.testing.assert_allclose(made.evaluate(x, "none"), 3 * model(reconstruction="mse").evaluate(x, "none"), rtol=1e-5)


def test_large_logits_give_finite_losses():
    made = model()
    made.load_state_dict({name: 1e4 * value for name, value in made.state_dict().items()})
    assert np.isfinite(made.evaluate(rows(), "none")).all()


def test_bytes_are_on_the_scale_of_floats():
    """What is made of bytes is to be compared with x / 255, which the losses of rows do."""
    made, x = model(reconstruction="mse"), np.round(255 * rows()).astype(np.uint8)
    floats = x * np.float32(1 / 255)
    assert np.array_equal(made.reconstruct(x), made.reconstruct(floats))
    np.testing.assert_allclose(made.evaluate(x, "none"), made.evaluate(floats, "none"), rtol=1e-6)


def test_the_discriminator_scores_codes():
    made, x = model(), rows()
    scores = made.score_samples(x, by="discriminator")
    z = made.encode(x)
    for layer in made.discriminator.layers:
        z = z @ layer.weight.numpy().T + layer.bias.numpy()
        z = np.maximum(z, 0) if layer is not made.discriminator.layers[-1] else z
    np.testing.assert_allclose(scores, z[:, 0], rtol=1e-4, atol=1e-6)
    assert scores.dtype == np.float64
    assert np.isfinite(made.score_samples(2 * x, by="discriminator")).all()  # as there are codes of any range
    with pytest.raises(ValueError, match=r"x: expected values in \[0, 1\]"):
        made.score_samples(2 * x)


def test_a_row_of_another_kind_scores_lower():
    rng = np.random.default_rng(0)
    x = 1 / (1 + np.exp(-rng.standard_normal((600, 2)) @ rng.standard_normal((2, 20)))).astype(np.float32)
    made = model(hidden=(32,))
    Trainer(made, 50, lr=3e-3).fit(x[:500], 20, progress=False)
    assert made.score_samples(x[500:]).mean() > made.score_samples(rows()).mean() + 1


def test_what_a_model_cannot_give_is_refused():
    with pytest.raises(ValueError, match="by: expected one of reconstruction, discriminator, got 'density'"):
        model().score_samples(rows(), by="density")
    with pytest.raises(ValueError, match="by: expected one of reconstruction, got 'discriminator'"):
        VAE(20, 2, (9,)).score_samples(rows(), by="discriminator")
    with pytest.raises(ValueError, match="reduction: expected one of mean, none, got 'sum'"):
        model().evaluate(rows(), reduction="sum")
