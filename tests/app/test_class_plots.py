"""What the pictures of classes show, and which models have them."""

from dataclasses import replace

import numpy as np
import pytest

from aaecore import (
    AAE,
    ClusteringAAE,
    LabelInformedAAE,
    ReductionAAE,
    SemiSupervisedAAE,
    SupervisedAAE,
    datasets,
    priors,
)
from aaecore.app import class_plots, cli, pictures, plots
from aaecore.app.sources import Source
from aaecore.evaluation.figures import Shown
from aaecore.training.history import History

pytest.importorskip("matplotlib", reason="pictures need the extra: pip install '.[app]'")
SHAPE, D, CLASSES = (4, 5), 20, 3
SMALL = {"hidden": (8,), "seed": 2}
NAMES = ("cat", "dog", "emu")
MODELS = {
    "AAE": lambda: AAE(D, 2, **SMALL),
    "mixture": lambda: LabelInformedAAE(D, classes=CLASSES, labels=NAMES, **SMALL),
    "roll": lambda: LabelInformedAAE(D, classes=CLASSES, labels=NAMES, prior=priors.SwissRoll(), **SMALL),
    "supervised": lambda: SupervisedAAE(D, classes=CLASSES, latent_dim=2, **SMALL),
    "semi-supervised": lambda: SemiSupervisedAAE(D, classes=CLASSES, latent_dim=4, **SMALL),
    "clustering": lambda: ClusteringAAE(D, clusters=CLASSES, latent_dim=4, **SMALL),
    "reduction": lambda: ReductionAAE(D, classes=CLASSES, dim=2, **SMALL),
    "fixed heads": lambda: ReductionAAE(D, classes=CLASSES, dim=CLASSES, fixed_heads=True, **SMALL),
}


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).integers(0, 256, (23, D), np.uint8)


def tiles(axes):
    """The images on some axes, (rows, columns, features); NaN where it is blank."""
    (image,) = axes.images
    whole = np.ma.filled(image.get_array(), np.nan)
    height, width = SHAPE[0] + 2, SHAPE[1] + 2
    whole = np.pad(whole, ((0, 2), (0, 2)), constant_values=np.nan)
    parts = whole.reshape(len(whole) // height, height, -1, width).swapaxes(1, 2)
    return parts[:, :, : SHAPE[0], : SHAPE[1]].reshape(*parts.shape[:2], D)


@pytest.mark.parametrize("which", ["mixture", "roll"])
def test_walks(which):
    model = MODELS[which]()
    (axes,) = class_plots.walks(model, SHAPE, n=6).axes
    codes = model.walks(6)
    np.testing.assert_allclose(tiles(axes), model.decode(codes.reshape(-1, 2)).reshape(3, 6, D), atol=1e-6)
    assert [t.get_text() for t in axes.get_yticklabels()] == list(NAMES)


@pytest.mark.parametrize("which", ["supervised", "semi-supervised", "clustering", "reduction"])
def test_sweeps_have_a_style_in_each_row_and_a_class_in_each_column(which):
    model = MODELS[which]()
    before = model.backend.to_host(model.sampler.state).tolist()
    (axes,) = class_plots.sweep(model, SHAPE, styles=4).axes
    assert model.backend.to_host(model.sampler.state).tolist() == before  # samples stay as they would have been
    z = priors.Normal().sample(4, model.latent_dim)
    for row, column in ((0, 0), (3, 1), (2, 2)):
        np.testing.assert_allclose(tiles(axes)[row, column], model.decode(z[[row]], [column])[0], atol=1e-6)
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0", "1", "2"]


def test_clusters_have_their_head_and_rows_that_belong_to_them(x):
    model = MODELS["clustering"]()
    found = model.predict(x)
    left, right = class_plots.clusters(model, x, SHAPE, n=5).axes
    np.testing.assert_allclose(tiles(left)[:, 0], model.cluster_heads(), atol=1e-6)
    for cluster in range(CLASSES):
        rows = x[found == cluster][:5] / 255
        shown = tiles(right)[cluster]
        np.testing.assert_allclose(shown[: len(rows)], rows, atol=1e-6)
        assert np.isnan(shown[len(rows) :]).all()
    shares = [f"{c}: {np.mean(found == c):.0%}" for c in range(CLASSES)]
    assert [t.get_text() for t in left.get_yticklabels()] == shares


@pytest.mark.parametrize("which", ["mixture", "roll"])
def test_parts_of_the_prior_have_the_colour_of_their_class(which, x):
    model, y = MODELS[which](), np.array([*NAMES, "emu"] * 6)[:23]
    (axes,) = plots.latent_scatter(model, x, y).axes
    assert [t.get_text() for t in axes.texts] == list(NAMES)
    for points, line, c in zip(axes.collections, axes.lines, range(CLASSES), strict=True):
        assert line.get_color() == plots.COLOURS[c]
        np.testing.assert_allclose(points.get_facecolor()[0][:3], line_colour(line))
        inside = model.prior.part_of(line.get_xydata(), CLASSES) == c
        assert inside.mean() > 0.9


def line_colour(line):
    from matplotlib.colors import to_rgb

    return to_rgb(line.get_color())


def test_heads_and_what_lies_around_them(x):
    model = MODELS["reduction"]()
    (axes,) = plots.latent_scatter(model, x).axes
    heads = axes.collections[-1].get_offsets()
    np.testing.assert_allclose(heads, model.heads)
    for head, line in zip(heads, axes.lines, strict=True):
        np.testing.assert_allclose(np.linalg.norm(line.get_xydata() - head, axis=1), 2.0, rtol=1e-5)
    assert [t.get_text() for t in axes.texts] == ["0", "1", "2"]


def test_fixed_heads_lie_on_a_circle(x):
    model = MODELS["fixed heads"]()
    (axes,) = plots.latent_scatter(model, x).axes
    np.testing.assert_allclose(np.linalg.norm(axes.collections[-1].get_offsets(), axis=1), 10.0, rtol=1e-6)
    np.testing.assert_allclose(axes.collections[0].get_offsets(), model.projected(model.encode(x)), rtol=1e-6)


ALL = {"reconstructions.png", "samples.png"}
SHOWN = {
    "AAE": ALL | {"manifold.png", "latent.png"}, "mixture": ALL | {"latent.png", "walks.png"},
    "roll": ALL | {"latent.png", "walks.png"}, "supervised": ALL | {"latent.png", "sweep.png"},
    "semi-supervised": ALL | {"sweep.png"}, "clustering": ALL | {"sweep.png", "clusters.png"},
    "reduction": ALL | {"latent.png", "sweep.png"}, "fixed heads": ALL | {"latent.png", "sweep.png"},
}  # fmt: skip


@pytest.mark.parametrize("which", SHOWN)
def test_what_a_model_offers_is_drawn(which, x):
    y = np.arange(23) % CLASSES
    y = np.array(NAMES)[y] if which in ("mixture", "roll") else y
    made = pictures.of_run([MODELS[which]()], History(), Source(x, x, y, SHAPE, y))
    assert made.keys() == SHOWN[which]
    for draw in made.values():
        assert draw().axes
    without = pictures.of_run([MODELS[which]()], History(), Source(x, x, y, None, y))
    assert without.keys() == SHOWN[which] & {"latent.png"}


def test_places_have_the_codes_and_the_walks_of_each_model(x):
    shown = [Shown(MODELS[which](), which) for which in ("mixture", "roll")]
    figure = class_plots.places(shown, x, np.array([*NAMES, "emu"] * 6)[:23], SHAPE)
    assert [axes.get_title() for axes in figure.axes[::2]] == [
        f"{w}: codes of held-out rows" for w in ("mixture", "roll")
    ]
    for axes, (model, _) in zip(figure.axes[1::2], shown, strict=True):
        codes = model.walks(class_plots.WALKED)
        np.testing.assert_allclose(tiles(axes)[2], model.decode(codes[2]), atol=1e-6)
    with pytest.raises(ValueError, match="shown: expected models with a part of the prior for each class, got none"):
        class_plots.places([Shown(MODELS["AAE"](), "none")], x, np.zeros(23), SHAPE)


@pytest.mark.parametrize(("name", "models"), [("figure-4", ["LabelInformedAAE"] * 2), ("figure-7", ["SupervisedAAE"])])
def test_figures_of_the_paper(name, models, tmp_path, capsys, monkeypatch):
    """One in twenty of the rows, since the networks are those of the paper."""
    sample = datasets.load("mnist-sample", dtype="uint8")
    train = replace(sample.train, x=sample.train.x[:250], y=sample.train.y[:250])
    few = replace(sample, train=train)
    monkeypatch.setattr("aaecore.datasets.load", lambda name, **rest: few)
    path = tmp_path / "figure.png"
    assert cli.run(["reproduce", name, str(path), "--epochs", "1"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert [line.split()[2] for line in said if line.startswith("training the")] == models
    assert path.stat().st_size > 20_000
