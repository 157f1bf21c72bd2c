"""The registry of models: classes of options, which files and the command line find by their names.

A model is in it once its module was imported; no file ever makes that happen.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, fields
from typing import Any, TypeVar, dataclass_transform

from ..options import declared, option

MODELS: dict[str, type[Any]] = {}  # by class name: those whose modules were imported
OLDEST = "AAE"  # of files that were written when there was one model, and did not name it

AnyModel = TypeVar("AnyModel")  # a subclass of `model.Model`, which stands on this


@dataclass_transform(field_specifiers=(option,), eq_default=False)
def model(cls: type[AnyModel]) -> type[AnyModel]:
    """Makes a class of options a model, which checkpoints and the command line find by its name.

    Raises:
        ValueError: another model has the name. TypeError: a field that is no option, which a file would lose.
    """
    made: Any = dataclass(eq=False, repr=False)(cls)
    if lost := [f.name for f in fields(made) if f.name not in declared(made)]:
        raise TypeError(f"{made.__name__}.{lost[0]}: expected option(COUNT, ...) or its like, got a plain field")
    there = MODELS.get(made.__name__)
    if there is not None and (there.__module__, there.__qualname__) != (made.__module__, made.__qualname__):
        raise ValueError(f"model: expected a name that no other model has, got {made.__name__!r} of {there.__module__}")
    MODELS[made.__name__] = made
    return made


def named(name: str) -> Any:
    """The class of a name, among those whose modules were imported.

    Raises:
        ValueError: there is none.
    """
    if name not in MODELS:
        known = f"one of {', '.join(MODELS)}, or one whose module was imported (as --model module:Class does)"
        raise ValueError(f"model: expected {known}, got {name!r}")
    return MODELS[name]


def imported(name: str) -> Any:
    """The class of a name, or of "module:Class", where the module is imported first.

    Raises:
        ValueError: there is none, or the module cannot be imported.
    """
    module, _, cls = name.rpartition(":")
    if not module:
        return named(name)
    try:
        found = getattr(importlib.import_module(module), cls, None)
    except (ImportError, TypeError) as error:  # a TypeError for a relative name
        expected = "module:Class with a module to import, whose folder is in PYTHONPATH"
        raise ValueError(f"model: expected {expected}, got {name!r}: {error}") from None
    if found is None or MODELS.get(cls) is not found:
        raise ValueError(f"model: expected module:Class with a class that is a @model, got {name!r}")
    return MODELS[cls]
