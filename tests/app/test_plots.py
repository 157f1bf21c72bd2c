"""What the pictures show: how many images and where, axes, extents; not how they look."""

from statistics import NormalDist

import numpy as np
import pytest

from aaecore import AAE, datasets, priors
from aaecore.app import config, pictures, plots, sources
from aaecore.app.sources import Source
from aaecore.models.phase import Phase
from aaecore.training.history import History

pytest.importorskip("matplotlib", reason="pictures need the extra: pip install '.[app]'")
SHAPE = (4, 5)


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).random((23, 20), np.float32)


def model(latent_dim=2, prior=None, **options):
    return AAE(20, latent_dim, (8,), prior=prior or priors.Normal(std=3.0, mean=1.0), **options)


def picture(axes):
    """The only image of some axes, blank (NaN) places included."""
    (image,) = axes.images
    return np.ma.filled(image.get_array(), np.nan)


def tile(image, row, column, gap):
    height, width = SHAPE
    top, left = row * (height + gap), column * (width + gap)
    return image[top : top + height, left : left + width]


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_reconstructions_stand_under_their_originals(x, dtype):
    given = x if dtype == "float32" else np.round(x * 255).astype(np.uint8)
    network = model(8)
    figure = plots.reconstructions(network, given, SHAPE)
    decoded = network.reconstruct(given)
    assert len(figure.axes) == 3  # 10, 10 and 3 images
    for number in (0, 9, 10, 22):
        image = picture(figure.axes[number // 10])
        original = tile(image, 0, number % 10, 2)
        np.testing.assert_allclose(original, given[number].reshape(SHAPE) / (255 if dtype == "uint8" else 1), atol=1e-6)
        np.testing.assert_allclose(tile(image, 1, number % 10, 2), decoded[number].reshape(SHAPE), atol=1e-6)
    assert [t.get_text() for t in figure.axes[2].get_yticklabels()] == ["original", "reconstruction"]


def test_samples_fill_a_grid_and_leave_the_rest_blank():
    figure = plots.samples(model(8, seed=4), 7, SHAPE)
    image = picture(figure.axes[0])
    assert image.shape == (3 * 6 - 2, 3 * 7 - 2)
    shown = [tile(image, i // 3, i % 3, 2) for i in range(9)]
    np.testing.assert_allclose(np.stack(shown[:7]).reshape(7, 20), model(8, seed=4).sample(7), atol=1e-6)
    assert np.isnan(np.stack(shown[7:])).all()


def test_manifold_follows_the_percentiles_of_the_prior():
    network = model()
    figure = plots.manifold(network, SHAPE, n=5)
    (axes,) = figure.axes
    prior = NormalDist(1.0, 3.0)
    z = [prior.inv_cdf(p) for p in (0.1, 0.3, 0.5, 0.7, 0.9)]
    for row, column, code in ((0, 0, (z[0], z[4])), (4, 0, (z[0], z[0])), (1, 4, (z[4], z[3])), (2, 2, (1.0, 1.0))):
        expected = network.decode(np.array([code], np.float32)).reshape(SHAPE)
        np.testing.assert_allclose(tile(picture(axes), row, column, 0), expected, atol=1e-5)
    assert [t.get_text() for t in axes.get_xticklabels()] == [f"{v:.1f}" for v in z]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("$z_1$", "$z_2$")
    heights = dict(zip((t.get_text() for t in axes.get_yticklabels()), axes.get_yticks(), strict=True))
    assert heights[f"{z[0]:.1f}"] > heights[f"{z[4]:.1f}"]  # rows count downwards, z2 grows upwards


def test_colour_images_keep_their_channels():
    network = AAE(4 * 5 * 3, 2, (8,))
    image = plots.samples(network, 4, (4, 5, 3)).axes[0].images[0].get_array()
    assert image.shape == (2 * 6 - 2, 2 * 7 - 2, 3)
    again = AAE(4 * 5 * 3, 2, (8,)).sample(4)
    np.testing.assert_allclose(image[6:, 7:], again[3].reshape(4, 5, 3), atol=1e-6)


def test_scatter_shows_every_code_by_class_and_the_prior(x):
    network, y = model(), np.arange(23) % 12
    (axes,) = plots.latent_scatter(network, x, y).axes
    z = network.encode(x)
    assert [t.get_text() for t in axes.get_legend().get_texts()] == [*map(str, range(12)), r"prior, 2$\sigma$"]
    for label, points in enumerate(axes.collections):
        np.testing.assert_allclose(points.get_offsets(), z[y == label], atol=1e-6)
    (circle,) = axes.lines
    np.testing.assert_allclose(np.hypot(*(circle.get_xydata() - 1.0).T), 6.0)
    assert axes.get_aspect() == 1.0
    styles = {(tuple(c.get_facecolor()[0]), c.get_paths()[0].vertices.tobytes()) for c in axes.collections}
    assert len(styles) == 12


def test_scatter_without_labels(x):
    (axes,) = plots.latent_scatter(model(), x).axes
    assert len(axes.collections[0].get_offsets()) == len(x)
    assert [t.get_text() for t in axes.get_legend().get_texts()] == [r"prior, 2$\sigma$"]


def laplace(n, rng):
    return rng.laplace(size=(n, 2))


CORRELATED = priors.GaussianMixture([[-4.0, 0.0], [4.0, 1.0]], [[[1.0, 0.5], [0.5, 1.0]], [[2.0, 0.0], [0.0, 0.3]]])
# What the points of a curve have in common: f(points) is 1 on all of it.
CURVES = {
    "normal": (priors.Normal(std=3.0, mean=1.0), lambda p: np.hypot(*(p - 1).T) / 6),
    "uniform": (priors.Uniform(-2.0, 1.0), lambda p: np.abs((p + 0.5) / 1.5).max(axis=1)),
    "hypersphere": (priors.Hypersphere(2.0), lambda p: np.hypot(*p.T) / 2),
    "swiss roll": (priors.SwissRoll((0.5, 2.0), 15.0), None),
}


@pytest.mark.parametrize("name", CURVES)
def test_scatter_draws_the_curve_of_the_prior(x, name):
    prior, on_it = CURVES[name]
    (axes,) = plots.latent_scatter(model(prior=prior), x).axes
    (line,) = axes.lines
    assert len(axes.get_legend().get_texts()) == 1
    points = line.get_xydata()
    if on_it is not None:
        np.testing.assert_allclose(on_it(points), 1, atol=1e-6)
    else:  # every sample lies on the curve, from its beginning to its end
        gaps = np.linalg.norm(prior.sample(5000)[:, None] - points, axis=2)
        assert gaps.min(axis=1).max() < 0.5
        assert gaps.min(axis=0).max() < 1.0
    if name == "uniform":
        assert set(map(tuple, points.tolist())) == {(-2, -2), (1, -2), (1, 1), (-2, 1)}
    low, high = axes.dataLim.min, axes.dataLim.max
    assert (low <= points.min(axis=0)).all()
    assert (high >= points.max(axis=0)).all()


def test_scatter_draws_the_ellipse_of_every_component(x):
    (axes,) = plots.latent_scatter(model(prior=CORRELATED), x).axes
    assert len(axes.lines) == 2
    for line, mean, covariance in zip(axes.lines, CORRELATED.means, CORRELATED.covariances, strict=True):
        away = line.get_xydata() - mean
        np.testing.assert_allclose(np.einsum("ni,ij,nj->n", away, np.linalg.inv(covariance), away), 4)


@pytest.mark.parametrize(
    ("prior", "shown"),
    [
        (laplace, "prior, samples"),
        (priors.SwissRoll((0.0, 1000.0)), "prior, samples"),  # as a curve it would be a filled disc
        (priors.Categorical(), "prior"),
    ],
)
def test_scatter_draws_samples_of_any_other_prior(x, prior, shown):
    (axes,) = plots.latent_scatter(model(prior=prior), x).axes
    assert [t.get_text() for t in axes.get_legend().get_texts()] == [shown]
    codes, drawn = axes.collections
    assert len(codes.get_offsets()) == len(x)
    assert len(drawn.get_offsets()) == (2 if shown == "prior" else plots.PRIOR_SAMPLES)


def test_scatter_leaves_the_samples_of_a_model_alone(x):
    drawn = model(prior=laplace)
    plots.latent_scatter(drawn, x)
    np.testing.assert_array_equal(drawn.sample(3), model(prior=laplace).sample(3))


def test_classes_have_the_names_of_the_data(x, monkeypatch):
    names, y = [f"class {i}" for i in range(12)], np.arange(23) % 12
    shown = pictures.of_run([model()], History(), Source(x, x, y, None, y, tuple(names)))["latent.png"]()
    assert [t.get_text() for t in shown.axes[0].get_legend().get_texts()][:12] == names
    sample = datasets.load("mnist-sample", dtype="uint8")
    monkeypatch.setattr("aaecore.datasets.load", lambda name, **rest: sample)
    made = {name: sources.load(config.of(AAE)(data=name)).class_names for name in datasets.NAMES}
    assert made["fashion-mnist"][9] == "ankle boot"
    assert (made["mnist"], made["mnist-sample"]) == (None, None)


def test_labels_without_a_name(x):
    y = np.array([-1, 0, 1, 7] * 6)[:23]
    for names, first in ((("a", "b"), ["no label", "a", "b", "7"]), (None, ["no label", "0", "1", "7"])):
        (axes,) = plots.latent_scatter(model(), x, y, names).axes
        assert [t.get_text() for t in axes.get_legend().get_texts()][:4] == first
    words = np.array(["", "ant", "bee", "ox"])[[-1, 0, 1, 2] * 6][:23]
    (axes,) = plots.latent_scatter(model(), x, words).axes
    assert [t.get_text() for t in axes.get_legend().get_texts()][:4] == ["no label", "ant", "bee", "ox"]


def test_loss_curves():
    row = {"step": 5, "discriminator": 1.0, "generator": 0.7, "lr_discriminator": 0.1}
    rows = [{"epoch": e, **row, "reconstruction": 9.0 / e, "validation": 1.0 * e} for e in (1, 2, 3)]
    left, right = plots.loss_curves(History(rows), AAE.phases).axes
    curves = {line.get_label(): line.get_xydata().tolist() for line in left.lines}
    assert curves == {"training": [[1, 9], [2, 4.5], [3, 3]], "held out": [[1, 1], [2, 2], [3, 3]]}
    equilibrium = "in equilibrium"
    assert [line.get_label() for line in right.lines] == ["discriminator", equilibrium, "generator", equilibrium]
    assert [line.get_ydata()[0] for line in right.lines[1::2]] == pytest.approx([2 * np.log(2), np.log(2)])
    assert (left.get_xlabel(), right.get_xlabel()) == ("epoch", "epoch")
    del rows[0]["validation"]  # as of a run that began without held-out rows
    curves = plots.loss_curves(History(rows), AAE.phases).axes[0].lines
    assert curves[1].get_xydata().tolist() == [[2, 2], [3, 3]]
    alone = plots.loss_curves(History(rows), (Phase("reconstruction", ()),))
    assert [axes.get_title() for axes in alone.axes] == ["Reconstruction"]
    with pytest.raises(ValueError, match="history: expected at least one epoch, got none"):
        plots.loss_curves(History(), AAE.phases)


def test_the_pictures_of_a_run(x):
    def names(models, shape, rows=({"epoch": 1},)):
        return list(pictures.of_run(models, History(rows), Source(x, x, None, shape)))

    images = ["reconstructions.png", "samples.png"]
    assert names([model(3), model()], SHAPE) == [*images, "manifold.png", "latent.png", "losses.png"]
    assert names([model(3), model(prior=priors.SwissRoll())], SHAPE, ()) == [*images, "latent.png"]
    assert names([model(3)], None) == ["losses.png"]


def test_bad_arguments(x):
    with pytest.raises(ValueError, match=r"image_shape: expected .* of 20 values, got \(4, 4\)"):
        plots.samples(model(), 4, (4, 4))
    with pytest.raises(ValueError, match="model: expected a 2-D code, got latent_dim 3"):
        plots.manifold(model(3), SHAPE)
    with pytest.raises(ValueError, match="model: expected a 2-D code, got latent_dim 3"):
        plots.latent_scatter(model(3), x)
    with pytest.raises(ValueError, match="manifold: expected a model with a Normal prior, got SwissRoll"):
        plots.manifold(model(prior=priors.SwissRoll()), SHAPE)
    with pytest.raises(ValueError, match="y: expected 23 labels"):
        plots.latent_scatter(model(), x, np.arange(22))


def test_save_writes_the_format_of_the_name_and_changes_no_settings(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    figure = plots.samples(model(), 4, SHAPE)
    for name, start in (("a.png", b"\x89PNG"), ("a.pdf", b"%PDF"), ("a.svg", b"<?xml")):
        plots.save(figure, tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)
    with pytest.raises(ValueError, match="xyz"):
        plots.save(figure, tmp_path / "a.xyz")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pdf", "a.png", "a.svg"]
    assert dict(matplotlib.rcParams) == before
