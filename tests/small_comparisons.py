"""Small comparisons on the command line: how they are run and stopped, and how tests look at what they leave."""

import json
import signal

from aaecore.app import cli
from aaecore.training.callbacks import Callback

SMALL = ("--set", "hidden=16", "--set", "batch_size=20", "--samples", "300", "--sigma-samples", "200")
TIMES = {"seconds", "seconds_per_epoch"}  # which differ from run to run


def run(out, data, *arguments, models="AAE,VAE", small=SMALL):
    return cli.run(["compare", str(out), "--data", str(data), "--models", models, *small, *map(str, arguments)])


def results(out):
    with open(f"{out}/results.jsonl") as file:
        return [json.loads(line) for line in file]


def numbers(out):
    """The results but for how long things took."""
    return [{name: value for name, value in line.items() if name not in TIMES} for line in results(out)]


class Stop(Callback):
    """Sends a signal after some step of some model."""

    at, kind = ("", 0), signal.SIGINT

    def on_step_end(self, trainer, losses):
        if (type(trainer.model).__name__, trainer.steps) == self.at:
            signal.raise_signal(self.kind)
