"""The command line: `aaecore train`, `resume`, `encode`, `predict`, `sample`, `plot`, `likelihood` and others.

click, rich and matplotlib come with the extra "app" and are imported only when a command runs. A run is a folder that
holds config.toml, one checkpoint and one history per model, and pictures: `train` fills it, `resume` completes it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import Field, replace
from functools import partial
from itertools import pairwise
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from .. import _info, _version
from ..backends.cpu import set_num_threads
from ..datasets import NAMES, SAMPLE
from ..errors import CheckpointError, DataError, DeviceError
from ..evaluation.figures import Training
from ..files.arrays import save_array
from ..files.csv import save_csv
from ..models import DEFAULT
from ..models.registry import imported
from ..options import SWITCH, TEXT
from ..training.trainer import Trainer
from . import compare, config, drawing, evaluate, outputs, pictures, plots, report, runs, sources, terminal
from . import toml as toml_file
from .reproduced import FIGURES
from .runs import CHECKPOINT, Terminated

if TYPE_CHECKING:
    import click

NO_APP = f"aaecore: the command line needs click, rich and matplotlib: {drawing.INSTALL}"
ERRORS = (ValueError, TypeError, OSError, DataError, CheckpointError, DeviceError, FloatingPointError, MemoryError)
EPOCHS = "In all; the schedule stays that of the first run; further epochs run at its end."
OTHERS = [name for name in NAMES if name != SAMPLE]  # data that have files
PATIENCE = "Instead of the run's; see train."
OF_MODELS = (runs.HISTORIES, runs.BEST, runs.LIKELIHOODS, runs.STATES)
WRITTEN = (runs.CONFIG, *runs.HISTORIES, *(name for table in OF_MODELS for name in table.values()), *pictures.PICTURES)


def main() -> NoReturn:
    """The program: exits with 0, 1 after an error, 2 after wrong usage, 130 after SIGINT and 143 after SIGTERM."""
    signal.signal(signal.SIGTERM, _terminate)
    status = run(sys.argv[1:])
    terminal.let_go()
    sys.exit(status)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def run(arguments: Sequence[str]) -> int:
    """Runs one command and gives its exit status; an error of the library becomes one line on standard error."""
    with terminal.steady() as out:
        try:
            status = _run(arguments)
        except KeyboardInterrupt:  # outside of click, which makes an Abort of it
            return 130
        except Terminated:
            return 143
        out.flush()
        if status == 0 and (why := terminal.lost(out)):
            return _failed(why)
        return status


def _failed(why: str) -> int:
    print(f"aaecore: {why}", file=sys.stderr)
    return 1


def _run(arguments: Sequence[str]) -> int:
    try:
        import click
        import matplotlib  # noqa: F401
        import rich  # noqa: F401
    except ImportError:
        print(NO_APP, file=sys.stderr)
        return 1
    try:
        return _commands(_config_of(arguments)).main(list(arguments), "aaecore", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except ERRORS as error:
        return _failed(terminal.sentence(error))
    except click.Abort:
        return 130


def _config_of(arguments: Sequence[str]) -> type[config.RunConfig]:
    """The record of the model that `train` names, by --model or in a TOML file: its flags depend on it."""
    if list(arguments[:1]) != ["train"]:
        return config.of(DEFAULT)
    named, where = DEFAULT.__name__, ""
    for before, argument in pairwise(arguments):
        if before == "--model" or argument.startswith("--model="):  # the last one counts
            named, where = argument.removeprefix("--model="), "--model"
        elif where != "--model" and os.path.isfile(argument) and (argument.endswith(".toml") or before[:2] != "--"):
            named, where = toml_file.read(argument).get("model", named), argument
    if not TEXT.accepts(named):
        raise ValueError(f"{where}: model: expected {TEXT.expected}, got {named!r}")
    try:
        return config.of(imported(named))
    except ValueError as error:
        raise ValueError(f"{where}: {error}" if where not in ("", "--model") else str(error)) from None


def _commands(of: type[config.RunConfig]) -> click.Group:
    import click

    def command(function: Callable[..., None], *params: click.Parameter) -> click.Command:
        return click.Command(function.__name__, callback=function, params=list(params), help=function.__doc__)

    path = click.Path()
    model = click.Argument(["model"], metavar="RUN_OR_CHECKPOINT", type=path)
    given, out = (click.Argument([name], type=path) for name in ("input", "out"))
    number = click.Option(["-n", "n"], type=click.IntRange(1), default=64, show_default=True)
    dataset = click.Option(["--dataset"], metavar="NAME", help="Name inside an HDF5 input.  [x]")
    parse = _parser(config.keys(of)["image_shape"])
    shape = click.Option(["--image-shape"], callback=parse, metavar="H,W", help="For a .png; square by default.")
    device = click.Option(["--device"], metavar="TEXT", help="cpu, cuda, ... instead of where the model was trained.")
    own = click.Option(["--model", "own"], metavar="MODULE:CLASS", help="The run's, where it is your own: imports it.")
    flags = [_flag(of, name) for name in config.keys(of)]
    commands = [
        command(
            train,
            click.Argument(["toml"], metavar="[CONFIG.toml]", required=False, type=path),
            *flags,
            click.Option(["--folder"], metavar="RUN", type=path, help="Where to write.  [runs/<date-time>]"),
            click.Option(["--overwrite"], is_flag=True, help="Replace the run in that folder."),
        ),
        command(resume, model, _flag(of, "epochs", EPOCHS), _flag(of, "patience", PATIENCE), device, own),
        *(command(f, model, given, out, dataset, device, own) for f in (encode, predict)),
        command(sample, model, out, number, shape, device, own),
        command(plot, model, device, own),
        *(command(f, model, *others, device, own) for f, others in evaluate.commands().items()),
        command(
            reproduce,
            click.Argument(["name"], metavar="FIGURE", type=click.Choice(list(FIGURES))),
            click.Argument(["out"], type=path),
            click.Option(["--data"], default=SAMPLE, show_default=True, metavar="NAME", help="Or " + ", ".join(OTHERS)),
            click.Option(["--data-folder"], type=path, help="Where its files are; AAECORE_DATA by default."),
            click.Option(["--epochs"], type=click.IntRange(1), default=100, show_default=True),
            click.Option(["--device"], default="cpu", show_default=True, metavar="TEXT"),
            click.Option(["--seed"], type=click.IntRange(0), default=0, show_default=True),
        ),
        command(compare.compare, *compare.parameters(partial(_flag, of))),
        command(
            info,
            click.Argument(["model"], metavar="[RUN_OR_CHECKPOINT]", required=False, type=path),
            click.Option(["--json", "as_json"], is_flag=True, help="As one JSON object."),
        ),
    ]  # fmt: skip
    group = click.Group("aaecore", {c.name: c for c in commands if c.name}, help="Adversarial autoencoders.")
    return click.version_option(_version.__version__, prog_name="aaecore", message="%(prog)s %(version)s")(group)


def _flag(of: type[config.RunConfig], name: str, help: str = "") -> click.Option:
    """The flag of a key of the configuration."""
    import click

    field = config.keys(of)[name]
    key, default = field.metadata, getattr(of(), name)
    flag, text = "--" + name.replace("_", "-"), key["help"]
    if key["kind"] is SWITCH:
        return click.Option([f"{flag}/--no-{flag[2:]}"], default=None, help=f"{text}  [{'on' if default else 'off'}]")
    shown = "" if default is None else "  [" + str(default).strip("(){}").replace("'", "").replace(": ", "=") + "]"
    return click.Option([flag], callback=_parser(field), metavar=key["kind"].metavar, help=help or text + shown)


def _parser(field: Field[Any]) -> Callable[..., Any]:
    """What makes a TOML value of the text of a flag."""
    import click

    def parse(context: click.Context, parameter: click.Parameter, text: str | None) -> Any:
        try:
            return None if text is None else config.flag_value(field, text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return parse


# --- commands ---------------------------------------------------------------------------------------------------------


def train(toml: str | None, folder: str | None, overwrite: bool, **flags: Any) -> None:
    """Train on a data set and write a run folder: checkpoints, histories, config.toml and pictures.

    Without arguments the digits that come with the package. Flags override the TOML file, which has the same keys
    (latent_dim for --latent-dim). --model changes which flags there are.
    """
    values = toml_file.read(toml) if toml else {}
    given = {k: v for k, v in flags.items() if v is not None}
    phases = imported(str({**values, **given}.get("model", DEFAULT.__name__))).phases
    options = config.from_values(config.merge(values, given, phases), toml or "options")
    config.check_used(options, given)
    if folder is not None:
        runs.check_folder(folder)
    if folder is not None and not overwrite:
        _refuse_to_replace(folder)
    options = config.with_absolute_data(options)
    source = sources.load(options)
    if given.get("two_dimensional") and not source.image_shape:
        raise ValueError("--two-dimensional: expected images, got rows; give their --image-shape if they are images")
    text = config.to_toml(options)  # a file name that it cannot hold is found before anything is written
    trainers = {part.file: runs.new_trainer(options, part, source) for part in runs.parts(options, source)}
    folder = folder or runs.new_folder(time.strftime("runs/%Y%m%d-%H%M%S"))
    os.makedirs(folder, exist_ok=True)
    for name in _written(folder):  # of an overwritten run
        os.unlink(os.path.join(folder, name))
    runs.write_config(folder, text)
    _complete(folder, options, source, trainers)


def resume(model: str, epochs: int | None, patience: int | None, device: str | None, own: str | None) -> None:
    """Continue a run from its checkpoint; on the same device bit for bit as if it had not been stopped.

    The files of named data come from the folder that config.toml names, or from that in AAECORE_DATA.
    """
    folder = runs.folder_of(model)
    changes: dict[str, Any] = {"epochs": epochs, "patience": patience, "device": device}
    options = replace(runs.read_config(folder, own), **{k: v for k, v in changes.items() if v is not None})
    trainers = {CHECKPOINT: Trainer.resume(os.path.join(folder, CHECKPOINT), device=device)}
    made = trainers[CHECKPOINT].epoch
    if epochs is not None and epochs <= made:
        raise ValueError(f"--epochs: expected an integer > {made}, the epochs made so far, got {epochs}")
    source = sources.load(options)
    parts = runs.parts(options, source)
    for part in parts[1:]:
        path = os.path.join(folder, part.file)
        there = os.path.exists(path)
        trainers[part.file] = Trainer.resume(path, device=device) if there else runs.new_trainer(options, part, source)
    if all(runs.is_complete(trainers[part.file], part, options) for part in parts):
        more = "--epochs makes more" if made >= options.epochs else "a larger --patience makes more"
        print(f"{folder} is already complete, with {made} epochs; {more}")
        return
    runs.write_config(folder, config.to_toml(options))
    _complete(folder, options, source, trainers)


def encode(model: str, input: str, out: str, dataset: str | None, device: str | None, own: str | None) -> None:
    """Write the codes of INPUT (.npy, .npz, .h5, .csv or IDX) to OUT (.npy, or .h5 with the dataset "z").

    The column of a .csv that had the labels of the run is left out. Of a .npz x_test comes after x_train.
    """
    outputs.suffix(out, ".npy", ".h5")
    outputs.spare(out, input, runs.checkpoint_of(model))
    rows = sources.rows(input, dataset, runs.label_column(model))
    codes = runs.load_coding(model, device, own).encode(rows)
    save_array(out, codes, "z")
    print(f"{out}: codes of shape {codes.shape}")


def predict(model: str, input: str, out: str, dataset: str | None, device: str | None, own: str | None) -> None:
    """Write the labels, or clusters, of the rows of INPUT, as encode takes it, to OUT (.csv or .npy)."""
    kind = outputs.suffix(out, ".csv", ".npy")
    outputs.spare(out, input, runs.checkpoint_of(model))
    rows = sources.rows(input, dataset, runs.label_column(model))
    network = runs.load_model(model, device, own)
    if not callable(getattr(network, "predict", None)):
        raise ValueError(f"{model}: expected a model that predicts labels, got one of {type(network).__name__}")
    labels = network.predict(rows)
    if kind == ".csv":
        save_csv(out, "label", labels)
    else:
        save_array(out, labels, "y")
    print(f"{out}: {len(labels)} labels, {len(set(labels.tolist()))} of them different")


def sample(model: str, out: str, n: int, image_shape: list[int] | None, device: str | None, own: str | None) -> None:
    """Write N decoded samples of the prior to OUT: .npy, or .png for images.

    On one device the same checkpoint gives the same samples.
    """
    kind = outputs.suffix(out, ".npy", ".png")
    if image_shape is not None and kind != ".png":
        raise ValueError(f"--image-shape: expected a .png as output, got {out}")
    outputs.spare(out, runs.checkpoint_of(model))
    network = runs.load_generative(model, device, own)
    if kind == ".npy":
        save_array(out, network.sample(n), "x")
    else:
        features = network.columns()["x"].features
        side = round(features**0.5)
        if image_shape is None and side * side != features:
            raise ValueError(f"--image-shape: needed for a .png, since {features} features are no square")
        plots.save(plots.samples(network, n, (side, side) if image_shape is None else image_shape), out)
    print(f"{out}: {n} samples")


def plot(model: str, device: str | None, own: str | None) -> None:
    """Draw the pictures of a run again."""
    folder = runs.folder_of(model)
    options = runs.read_config(folder, own)
    source = sources.load(options)
    files = [part.file for part in runs.parts(options, source) if os.path.exists(os.path.join(folder, part.file))]
    paths = [os.path.join(folder, file) for file in files or [CHECKPOINT]]
    _draw(folder, source, [Trainer.resume(path, device=device) for path in paths])


def reproduce(
    name: str, out: str, data: str, data_folder: str | None, epochs: int, device: str, seed: int
) -> None:  # fmt: skip
    """Train what a figure of the paper shows, and draw it.

    figure-2: codes of held-out digits of adversarial and variational autoencoders with equal priors, side by side.
    figure-4: codes that keep to the part of the prior that their class has, and walks along those parts.
    figure-7: every digit in the same styles.
    """
    outputs.suffix(out, ".png", ".pdf", ".svg")
    if data_folder is not None and data == SAMPLE:
        raise ValueError(f"--data-folder: expected --data {' or '.join(OTHERS)} besides, got {data}")
    digits = sources.named(data, data_folder)
    training = Training(epochs, device, seed, say=partial(print, file=sys.stderr))
    plots.save(FIGURES[name](digits, training), out)
    print(out)


def info(model: str | None, as_json: bool) -> None:
    """Say what this installation is made of, or what a checkpoint holds."""
    table: dict[str, Any] = dict(_info.config()) if model is None else report.described(runs.checkpoint_of(model))
    if as_json:
        print(json.dumps(table, indent=2))
        return
    width = 16 if model is None else 22
    for name, value in table.items():
        shown = f"{value:.6g}" if isinstance(value, float) else str(value)
        print(f"{terminal.plain(name):<{width}} {terminal.plain(shown)}")


# --- what the commands share ------------------------------------------------------------------------------------------


def _written(folder: str) -> list[str]:
    """The names in the folder that a run would replace."""
    return [name for name in WRITTEN if os.path.lexists(os.path.join(folder, name))]


def _refuse_to_replace(folder: str) -> None:
    if there := _written(folder):
        go_on = f"a run: continue it with 'aaecore resume {folder}'," if CHECKPOINT in there else f"{there[0]}:"
        raise ValueError(f"{folder} already holds {go_on} replace it with --overwrite, or give another --folder")


def _complete(folder: str, options: config.RunConfig, source: sources.Source, trainers: dict[str, Trainer]) -> None:
    """Trains every model of a run to its end, then draws and prints."""
    if options.threads is not None:
        set_num_threads(options.threads)
    seconds, titles = [], []
    for part in runs.parts(options, source):
        trainer = trainers[part.file]
        seconds.append(runs.fit(folder, trainer, source, part, options))
        titles.append(part.title(trainer.model))
    report.print_table(source, list(trainers.values()), titles, seconds)
    if options.plots:
        _draw(folder, source, list(trainers.values()))


def _draw(folder: str, source: sources.Source, trainers: Sequence[Trainer]) -> None:
    """Draws what suits the data and the models, and prints the paths."""
    for name, figure in pictures.of_run([t.model for t in trainers], trainers[0].history, source).items():
        path = os.path.join(folder, name)
        plots.save(figure(), path)
        print(path)
