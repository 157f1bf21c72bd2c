"""Options that are declared once: default, check and help of an argument, of its key in TOML and of its flag.

An option is a field of a dataclass. Whoever reads the fields finds in each what a caller, a file or a command may give.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, field, fields
from typing import Any, NamedTuple

from . import arguments


class Kind(NamedTuple):
    """What an option may hold.

    `check(name, value)` gives the value as it is kept, or raises a ValueError or TypeError that names the option.
    The rest says how a command writes it: `metavar` in its help, `quoted` where the text itself is the value, and
    `brackets` to put around a text that makes it TOML.
    """

    expected: str
    check: Callable[[str, Any], Any]
    metavar: str = "TEXT"
    quoted: bool = False
    brackets: str = ""

    def accepts(self, value: Any) -> bool:
        """Whether an option of this kind may hold the value."""
        try:
            self.check("", value)
        except (TypeError, ValueError):
            return False
        return True


def integer(low: int, high: int | None = None) -> Kind:
    """Integers from `low` to `high`."""
    expected = f"an integer >= {low}" if high is None else f"an integer from {low} to {high}"
    return Kind(expected, lambda name, v: arguments.count(name, v, low, high), "N")


def number(low: float, high: float = float("inf"), *, open_low: bool = False) -> Kind:
    """Numbers from `low` on, or from above it where it is open, and below `high`."""
    edge = f"a number {'>' if open_low else '>='} {low:g}"
    expected = edge if high == float("inf") else f"a number in {'(' if open_low else '['}{low:g}, {high:g})"
    return Kind(expected, lambda name, v: arguments.number(name, v, low, high, open_low=open_low), "X")


def one_of(*choices: str) -> Kind:
    """One of some words."""
    return Kind(f"one of {', '.join(choices)}", lambda name, v: arguments.choice(name, v, choices), quoted=True)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name}: expected a string, got {arguments.shown(value)}")
    return value


def _switch(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name}: expected true or false, got {arguments.shown(value)}")
    return value


TEXT = Kind("a string", _text, quoted=True)
SWITCH = Kind("true or false", _switch, "")
COUNT = integer(1)
SEED = Kind("an integer from 0 to 2^63 - 1", lambda name, v: arguments.seed(v), "N")
COUNTS = Kind("a list of integers >= 1", arguments.counts, "N,N", brackets="[]")
NUMBERS = Kind("a list of numbers > 0", arguments.numbers, "X,X", brackets="[]")
LABELS = Kind("a list of different integers or strings", arguments.labels, "A,B", brackets="[]")


def option(
    kind: Kind, help: str, *, default: Any = MISSING, run: Any = MISSING, old: Any = MISSING, of_data: bool = False,
    told: bool = False, beside: Mapping[str, Sequence[Any]] | None = None,
) -> Any:  # fmt: skip
    """A field of a dataclass.

    Args:
        kind: what it may hold; None is allowed where it is the default.
        help: what it is, for people.
        default: none makes it a required argument.
        run: what the command line begins with, where that is not the default.
        old: what it was in files from before it was there, where that is not the default.
        of_data: whether the data tell it, so that neither files nor flags have it.
        told: whether the data may tell it where neither file nor flag says it.
        beside: the values of other options by name that it changes something with; any by default.
    """
    metadata = {
        "kind": kind, "help": help, "run": default if run is MISSING else run, "old": old, "of_data": of_data,
        "told": told, "beside": beside or {},
    }  # fmt: skip
    if default is MISSING:
        return field(metadata=metadata)
    return field(default=default, metadata=metadata)


def again(owner: Any, name: str, default: Any, *, beside: Mapping[str, Sequence[Any]] | None = None) -> Any:
    """An option of a dataclass once more, for a subclass where it begins with another value or needs others besides."""
    key = declared(owner)[name].metadata
    besides = {**key["beside"], **(beside or {})}
    return option(
        key["kind"], key["help"], default=default, of_data=key["of_data"], told=key["told"], beside=besides
    )  # fmt: skip


def declared(owner: Any) -> dict[str, Field[Any]]:
    """The options of a dataclass or of an object of one, by name, in order."""
    return {f.name: f for f in fields(owner) if "kind" in f.metadata}


def unused(options: Mapping[str, Field[Any]], values: Mapping[str, Any]) -> dict[str, tuple[str, Sequence[Any]]]:
    """The options by name that change nothing, each with another one and the values of it that they need."""
    return {
        name: need
        for name, key in options.items()
        for need in key.metadata["beside"].items()
        if need[0] in values and values[need[0]] not in need[1]
    }


def checked(options: Mapping[str, Field[Any]], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as they are kept; None stays where it is the default.

    Raises:
        ValueError, TypeError: a value that its option does not accept; the message begins with its name.
    """
    return {
        name: None if values[name] is None and key.default is None else key.metadata["kind"].check(name, values[name])
        for name, key in options.items()
    }
