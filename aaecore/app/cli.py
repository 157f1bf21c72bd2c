"""The command line: `aaecore train`, `resume`, `encode`, `sample`, `plot` and `info`.

click, rich and matplotlib come with the extra "app" and are imported only when a command runs. A run is a folder that
holds config.toml, one checkpoint and one history per model, and pictures: `train` fills it, `resume` completes it.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np

from .. import _version
from .._info import show_config
from ..backends.cpu import set_num_threads
from ..errors import CheckpointError, DataError, DeviceError
from ..files import atomic, checkpoint
from ..files.arrays import as_rows, load_array
from ..models.aae import AAE
from ..optim import Adam
from ..training.trainer import Trainer, load
from . import config, plots, runs, sources, spelling
from . import toml as toml_file

if TYPE_CHECKING:
    import click

NO_APP = "aaecore: the command line needs click, rich and matplotlib: pip install 'aaecore[app]'"
ERRORS = (ValueError, TypeError, OSError, DataError, CheckpointError, DeviceError, FloatingPointError, MemoryError)
CONFIG = "config.toml"
CHECKPOINT, CHECKPOINT_2D = "checkpoint.h5", "checkpoint_2d.h5"
SAVE_EVERY = 10.0  # seconds of training between two checkpoints
HISTORIES = {CHECKPOINT: "history.csv", CHECKPOINT_2D: "history_2d.csv"}
EPOCHS = "In all; the schedule stays that of the first run; further epochs run at its end."
WRITTEN = (CONFIG, *HISTORIES, *HISTORIES.values(), *plots.PICTURES)


class Terminated(BaseException):
    """SIGTERM came."""


def main() -> NoReturn:
    """The program: exits with 0, 1 after an error, 2 after wrong usage, 130 after SIGINT and 143 after SIGTERM."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run(sys.argv[1:]))


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def run(arguments: Sequence[str]) -> int:
    """Runs one command and gives its exit status; an error of the library becomes one line on standard error."""
    try:
        return _run(arguments)
    except KeyboardInterrupt:  # outside of click, which makes an Abort of it
        return 130
    except Terminated:
        return 143


def _run(arguments: Sequence[str]) -> int:
    try:
        import click
        import matplotlib  # noqa: F401
        import rich  # noqa: F401
    except ImportError:
        print(NO_APP, file=sys.stderr)
        return 1
    try:
        return _commands().main(list(arguments), "aaecore", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except ERRORS as error:
        print(f"aaecore: {' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr)
        return 1
    except click.Abort:
        return 130


def _commands() -> click.Group:
    import click

    def command(function: Callable[..., None], *params: click.Parameter) -> click.Command:
        return click.Command(function.__name__, callback=function, params=list(params), help=function.__doc__)

    path = click.Path()
    model = click.Argument(["model"], metavar="RUN_OR_CHECKPOINT", type=path)
    out = click.Argument(["out"], type=path)
    number = click.Option(["-n", "n"], type=click.IntRange(1), default=64, show_default=True)
    dataset = click.Option(["--dataset"], default="x", metavar="NAME", help="Name inside an HDF5 input.  [x]")
    shape = click.Option(["--image-shape"], callback=_parse_flag, metavar="H,W", help="For a .png; square by default.")
    device = click.Option(["--device"], metavar="TEXT", help="cpu, cuda, ... instead of where the model was trained.")
    flags = [_flag(name) for name in config.KEYS]
    commands = [
        command(
            train,
            click.Argument(["toml"], metavar="[CONFIG.toml]", required=False, type=path),
            *flags,
            click.Option(["--folder"], metavar="RUN", type=path, help="Where to write.  [runs/<date-time>]"),
            click.Option(["--overwrite"], is_flag=True, help="Replace the run in that folder."),
        ),
        command(resume, model, _flag("epochs", EPOCHS), device),
        command(encode, model, click.Argument(["input"], type=path), out, dataset, device),
        command(sample, model, out, number, shape, device),
        command(plot, click.Argument(["folder"], metavar="RUN", type=path), device),
        command(info, click.Argument(["model"], metavar="[RUN_OR_CHECKPOINT]", required=False, type=path)),
    ]  # fmt: skip
    group = click.Group("aaecore", {c.name: c for c in commands if c.name}, help="Adversarial autoencoders.")
    return click.version_option(_version.__version__, prog_name="aaecore", message="%(prog)s %(version)s")(group)


def _flag(name: str, help: str = "") -> click.Option:
    """The flag of a key of the configuration."""
    import click

    key, default = config.KEYS[name].metadata, getattr(config.RunConfig(), name)
    flag, text = "--" + name.replace("_", "-"), key["help"]
    if key["kind"] is config.SWITCH:
        return click.Option([f"{flag}/--no-{flag[2:]}"], default=None, help=f"{text}  [{'on' if default else 'off'}]")
    shown = "" if default is None else "  [" + str(default).strip("(){}").replace("'", "").replace(": ", "=") + "]"
    return click.Option([flag], callback=_parse_flag, metavar=key["kind"].metavar, help=help or text + shown)


def _parse_flag(context: click.Context, parameter: click.Parameter, text: str | None) -> Any:
    import click

    try:
        return None if text is None else config.flag_value(str(parameter.name), text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


# --- commands ---------------------------------------------------------------------------------------------------------


def train(toml: str | None, folder: str | None, overwrite: bool, **flags: Any) -> None:
    """Train on a data set and write a run folder: checkpoints, histories, config.toml and pictures.

    Without arguments the digits that come with the package. Flags override the TOML file, which has the same keys
    (latent_dim for --latent-dim).
    """
    values = toml_file.read(toml) if toml else {}
    given = {k: v for k, v in flags.items() if v is not None}
    options = config.from_values(config.merge(values, given), toml or "options")
    if folder is not None and not overwrite:
        _refuse_to_replace(folder)
    source = sources.load(options)
    trainers = {model.file: _new_trainer(options, model, source) for model in _models(options, source)}
    folder = folder or runs.new_folder(time.strftime("runs/%Y%m%d-%H%M%S"))
    os.makedirs(folder, exist_ok=True)
    for name in _written(folder):  # of an overwritten run
        os.unlink(os.path.join(folder, name))
    _write_config(folder, options)
    _complete(folder, options, source, trainers)


def resume(model: str, epochs: int | None, device: str | None) -> None:
    """Continue a run from its checkpoint; on the same device bit for bit as if it had not been stopped."""
    folder = _folder(model)
    changes: dict[str, Any] = {"epochs": epochs, "device": device}
    options = replace(_read_config(folder), **{k: v for k, v in changes.items() if v is not None})
    trainers = {CHECKPOINT: Trainer.resume(os.path.join(folder, CHECKPOINT), device=device)}
    made = trainers[CHECKPOINT].epoch
    if epochs is not None and epochs <= made:
        raise ValueError(f"--epochs: expected an integer > {made}, the epochs made so far, got {epochs}")
    source = sources.load(options)
    models = _models(options, source)
    for m in models[1:]:
        path = os.path.join(folder, m.file)
        there = os.path.exists(path)
        trainers[m.file] = Trainer.resume(path, device=device) if there else _new_trainer(options, m, source)
    if all(trainers[m.file].epoch >= m.epochs for m in models):
        print(f"{folder} is already complete, with {made} epochs; --epochs makes more")
        return
    _write_config(folder, options)
    _complete(folder, options, source, trainers)


def encode(model: str, input: str, out: str, dataset: str, device: str | None) -> None:
    """Write the codes of INPUT (.npy, .h5 or IDX) to OUT (.npy, or .h5 with the dataset "z")."""
    kind = _suffix(out, ".npy", ".h5")
    codes = load(_checkpoint(model), device=device).encode(as_rows(load_array(input, dataset)))
    buffer = io.BytesIO()
    if kind == ".npy":
        np.save(buffer, codes)
    else:
        import h5py

        with h5py.File(buffer, "w") as file:
            file.create_dataset("z", data=codes, track_times=False)
    atomic.write(out, buffer.getvalue())
    print(f"{out}: codes of shape {codes.shape}")


def sample(model: str, out: str, n: int, image_shape: list[int] | None, device: str | None) -> None:
    """Write N decoded samples of the prior to OUT: .npy, or .png for images.

    On one device the same checkpoint gives the same samples.
    """
    kind = _suffix(out, ".npy", ".png")
    network = load(_checkpoint(model), device=device)
    if kind == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, network.sample(n))
        atomic.write(out, buffer.getvalue())
    else:
        side = round(network.input_dim**0.5)
        if image_shape is None and side * side != network.input_dim:
            raise ValueError(f"--image-shape: needed for a .png, since {network.input_dim} features are no square")
        plots.save(plots.samples(network, n, image_shape or (side, side)), out)
    print(f"{out}: {n} samples")


def plot(folder: str, device: str | None) -> None:
    """Draw the pictures of a run again."""
    options = _read_config(folder)
    source = sources.load(options)
    models = [m.file for m in _models(options, source) if os.path.exists(os.path.join(folder, m.file))]
    paths = [os.path.join(folder, file) for file in models or [CHECKPOINT]]
    _draw(folder, source, [Trainer.resume(path, device=device) for path in paths])


def info(model: str | None) -> None:
    """Say what this installation is made of, or what a checkpoint holds."""
    if model is None:
        return show_config()
    path = _checkpoint(model)
    meta = checkpoint.peek(path)
    try:
        position, rows = meta["position"], [dict(row) for row in meta["history"]]
        table = {**meta["model"], "batch_size": meta["trainer"]["batch_size"], "schedule": meta["trainer"]["schedule"]}
        table |= {f"lr, {phase}": o["lr"] for phase, o in meta["trainer"]["optimizers"].items()}
        table |= {"epochs made": position["epoch"], "steps made": position["steps"]}
        table |= {f"last {name}": value for name, value in (rows[-1] if rows else {}).items()}
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: expected the checkpoint of a trainer: {error!r}") from None
    for name, value in table.items():
        print(f"{name:<22} {f'{value:.6g}' if isinstance(value, float) else value}")


# --- data and models of a run -----------------------------------------------------------------------------------------


class Model(NamedTuple):
    """One of the models that a run trains."""

    file: str
    latent_dim: int
    prior: str  # the key that names it
    epochs: int


def _models(options: config.RunConfig, source: sources.Source) -> list[Model]:
    models = [Model(CHECKPOINT, options.latent_dim, "prior", options.epochs)]
    if options.two_dimensional and source.image_shape and options.latent_dim != 2:
        models.append(Model(CHECKPOINT_2D, 2, "two_dimensional_prior", options.two_dimensional_epochs))
    return models


def _new_trainer(options: config.RunConfig, model: Model, source: sources.Source) -> Trainer:
    prior = spelling.make_prior(getattr(options, model.prior), model.prior)
    network = AAE(
        source.train.shape[1], model.latent_dim, options.hidden, options.posterior, prior, options.reconstruction,
        output=options.output, precision=options.precision, device=options.device, seed=options.seed,
    )  # fmt: skip
    for rows in (source.train, source.test):
        network.check_data(rows, "data")
    steps = -(-len(source.train) // options.batch_size)
    schedule = spelling.make_schedule(options.schedule, model.epochs, steps)
    beta1 = dict.fromkeys(config.PHASES, options.adversarial_beta1) | {"reconstruction": 0.9}
    makers = {phase: partial(Adam, lr=rate, betas=(beta1[phase], 0.999)) for phase, rate in options.lr.items()}
    return Trainer(network, options.batch_size, optimizers=makers, schedule=schedule)


def _read_config(folder: str) -> config.RunConfig:
    path = os.path.join(folder, CONFIG)
    if not os.path.exists(path):
        raise ValueError(f"{folder}: expected the folder of a run or a checkpoint in it, but it has no {CONFIG}")
    return config.read(path)


def _write_config(folder: str, options: config.RunConfig) -> None:
    text = config.to_toml(config.with_absolute_data(options))
    atomic.write(os.path.join(folder, CONFIG), text.encode())


def _written(folder: str) -> list[str]:
    """The names in the folder that a run would replace."""
    return [name for name in WRITTEN if os.path.lexists(os.path.join(folder, name))]


def _refuse_to_replace(folder: str) -> None:
    if there := _written(folder):
        go_on = f"a run: continue it with 'aaecore resume {folder}'," if CHECKPOINT in there else f"{there[0]}:"
        raise ValueError(f"{folder} already holds {go_on} replace it with --overwrite, or give another --folder")


def _folder(path: str) -> str:
    """The folder of the run that a folder or one of its checkpoints stands for."""
    if os.path.isdir(path):
        return path
    if os.path.basename(path) in HISTORIES and os.path.isfile(path):
        return os.path.dirname(path) or "."
    raise ValueError(f"RUN_OR_CHECKPOINT: expected the folder of a run or its {CHECKPOINT}, got {path!r}")


def _checkpoint(path: str) -> str:
    return os.path.join(path, CHECKPOINT) if os.path.isdir(path) else path


def _suffix(path: str, *known: str) -> str:
    """Of a file to write, which is known to be possible after this."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in known:
        raise ValueError(f"out: expected a file name that ends in {' or '.join(known)}, got {path!r}")
    atomic.check_target(path)
    return suffix


# --- training and what it leaves --------------------------------------------------------------------------------------


def _complete(folder: str, options: config.RunConfig, source: sources.Source, trainers: dict[str, Trainer]) -> None:
    """Trains every model of a run to its end, then draws and prints."""
    if options.threads is not None:
        set_num_threads(options.threads)
    seconds = {}
    for model in _models(options, source):
        trainer = trainers[model.file]
        begun = time.monotonic()
        if trainer.epoch < model.epochs:
            rows = f"{len(source.train)} rows of {options.data}"
            print(f"training the {model.latent_dim}-D model on {rows}", file=sys.stderr)
            _fit(folder, trainer, source, model)
        seconds[model.file] = time.monotonic() - begun
    _print_table(source, list(trainers.values()), list(seconds.values()))
    if options.plots:
        _draw(folder, source, list(trainers.values()))


def _fit(folder: str, trainer: Trainer, source: sources.Source, model: Model) -> None:
    history, file = os.path.join(folder, HISTORIES[model.file]), os.path.join(folder, model.file)
    try:
        trainer.fit(source.train, model.epochs, validation=source.test, checkpoint=file, checkpoint_interval=SAVE_EVERY)
    except (KeyboardInterrupt, Terminated):
        print(_farewell(folder, file, trainer.steps), file=sys.stderr)
        raise
    finally:
        if len(trainer.history):
            trainer.history.to_csv(history)


def _farewell(folder: str, file: str, steps: int) -> str:
    """What was reached and what is kept of it: a second signal ends training without a checkpoint."""
    try:
        saved = checkpoint.peek(file)["position"]["steps"] if os.path.exists(file) else None
    except (CheckpointError, LookupError, TypeError):
        saved = None
    kept = "there is no checkpoint of this model" if saved is None else f"the last checkpoint is of step {saved}"
    said = [f"stopped after step {steps}", *([kept] if saved != steps else [])]
    if os.path.exists(os.path.join(folder, CHECKPOINT)):
        said.append(f"continue with: aaecore resume {folder}")
    return "; ".join(said)


def _print_table(source: sources.Source, trainers: Sequence[Trainer], seconds: Sequence[float]) -> None:
    from rich.console import Console
    from rich.table import Table

    def spread(z: np.ndarray) -> str:
        return f"{z.mean():.2f}, {z.std(axis=0).mean():.2f}"

    table = Table("", *(f"{t.model.latent_dim}-D model" for t in trainers))
    last = [t.history.rows[-1] for t in trainers]
    rows = {
        "reconstruction loss, training data": [f"{t.model.evaluate(source.train):.1f}" for t in trainers],
        "reconstruction loss, test data": [f"{t.model.evaluate(source.test):.1f}" for t in trainers],
        "codes of test data: mean, std": [spread(t.model.encode(source.test)) for t in trainers],
        "prior: mean, std": [spread(t.model.sample_prior(10000)) for t in trainers],
        "discriminator loss (equilibrium 1.39)": [f"{row['discriminator']:.2f}" for row in last],
        "generator loss (equilibrium 0.69)": [f"{row['generator']:.2f}" for row in last],
        "parameters": [f"{sum(v.size for v in t.model.state_dict().values()):,}" for t in trainers],
        "steps": [str(t.steps) for t in trainers],
        "training, seconds": [f"{s:.1f}" for s in seconds],
    }
    for name, cells in rows.items():
        table.add_row(name, *cells)
    Console().print(table)


def _draw(folder: str, source: sources.Source, trainers: Sequence[Trainer]) -> None:
    """Draws what suits the data and the models, and prints the paths."""
    for name, figure in plots.of_run([t.model for t in trainers], trainers[0].history, source).items():
        path = os.path.join(folder, name)
        plots.save(figure(), path)
        print(path)
