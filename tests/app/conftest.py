"""A file of images and a finished run, made once."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """A file of 60 images, 4 x 5."""
    path = tmp_path_factory.mktemp("data") / "images.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (60, 4, 5), np.uint8))
    return str(path)


@pytest.fixture(scope="session")
def finished(images, tmp_path_factory):
    """A finished run."""
    pytest.importorskip("rich", reason="the command line needs the extra: pip install '.[app]'")
    from small_runs import SMALL, cli

    folder = str(tmp_path_factory.mktemp("runs") / "run")
    assert cli.run(["train", "--data", images, "--folder", folder, *SMALL, "--adversarial-beta1", "0.25"]) == 0
    return folder
