"""Checks of arguments: one way to say what was expected and what came.

NumPy's integers and floats are numbers like Python's; True and False are not, but in arrays, where they are 1 and 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

FLOAT32_MAX = float(np.finfo(np.float32).max)
FLOAT32_TINY = float(np.finfo(np.float32).tiny)  # of what is smaller, kernels make zero
INT64_MAX = 2**63 - 1
SEED_LIMIT = 2**63
MOST = 1000  # layers of a network: a hostile file could ask for millions
INTEGERS = (int, np.integer)  # a replay is checked too: a tuple is twice as fast as a union made anew
REALS = (bool, int, float, np.bool_, np.integer, np.floating)
FILE_LIBRARIES = {"h5py", "netCDF4", "zarr"}  # whose arrays are in a file until they are read
FILE_BYTES = 1 << 28  # of such an array that is read without a word
_SHOWN = 200  # characters of a value in a message


def shown(value: Any) -> str:
    """What a message shows of a value: what it looks like, cut where it is long."""
    try:
        text = repr(value)
    except Exception:  # an integer with more digits than Python prints, or a user's own
        return f"one of {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"


def count(name: str, value: Any, least: int = 1, most: int | None = None, *, expected: str = "") -> int:
    """`value` as an int from `least` to `most`.

    `expected` says it in other words than "an integer >= 1".

    Raises:
        ValueError: another value, or no integer.
    """
    is_integer = isinstance(value, INTEGERS) and not isinstance(value, bool)
    if not is_integer or not least <= value <= (INT64_MAX if most is None else most):
        usual = f"an integer >= {least}" if most is None else f"an integer from {least} to {most}"
        if is_integer and value > INT64_MAX:
            usual += " and < 2^63" if most is None else ""
        raise ValueError(f"{name}: expected {expected or usual}, got {shown(value)}")
    return int(value)


def counts(name: str, values: Any) -> tuple[int, ...]:
    """`values` as integers >= 1.

    Raises:
        ValueError: no sequence, or one of them is something else.
    """
    if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray):
        raise ValueError(f"{name}: expected a sequence of integers >= 1, got {shown(values)}")
    if len(values) > MOST:
        raise ValueError(f"{name}: expected at most {MOST} integers, got {len(values)}")
    return tuple(count(name, value) for value in values)


def labels(name: str, values: Any) -> tuple[int, ...] | tuple[str, ...]:
    """`values` as labels, integers without -1 or strings that are not empty, no two of them equal.

    Raises:
        ValueError: something else.
    """
    expected = f"{name}: expected different integers, none of them -1, or different strings, none of them empty"
    if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray) or not len(values):
        raise ValueError(f"{expected}, got {shown(values)}")
    made = tuple(value.item() if isinstance(value, np.generic) else value for value in values)
    are_integers = all(isinstance(v, int) and not isinstance(v, bool) and abs(v) <= INT64_MAX for v in made)
    if not (are_integers or all(isinstance(v, str) for v in made)) or {-1, ""} & {*made} or len({*made}) < len(made):
        raise ValueError(f"{expected}, got {shown(list(made))}")
    return made


def number(name: str, value: Any, low: float, high: float = math.inf, *, open_low: bool = False) -> float:
    """`value` as a float that float32 can hold, in [low, high), or (low, high) with `open_low`.

    A number that must be above 0 must be so in float32 as well.

    Raises:
        TypeError: no number. ValueError: another number.
    """
    expected = f"a number {'>' if open_low else '>='} {low:g}" + ("" if high == math.inf else f" and < {high:g}")
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name}: expected {expected}, got {shown(value)}")
    value = value.item() if isinstance(value, np.generic) else value  # float16 could not be compared with the bounds
    if not low <= value < high or (open_low and value == low):
        raise ValueError(f"{name}: expected {expected}, got {shown(value)}")
    if not -FLOAT32_MAX <= value <= FLOAT32_MAX or (open_low and low == 0 and value < FLOAT32_TINY):
        raise ValueError(f"{name}: expected {expected}, got {shown(value)}, which float32 cannot hold")
    return float(value)


def numbers(name: str, values: Any) -> tuple[float, ...]:
    """`values` as numbers > 0, at least one.

    Raises:
        TypeError: one of them is no number. ValueError: no sequence, an empty one, or one of other numbers.
    """
    if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray) or not 0 < len(values) <= MOST:
        raise ValueError(f"{name}: expected 1 to {MOST} numbers > 0, got {shown(values)}")
    return tuple(number(name, value, 0.0, open_low=True) for value in values)


def choice(name: str, value: Any, options: Sequence[str]) -> str:
    """`value`, one of the options.

    Raises:
        ValueError: none of them.
    """
    if value not in options:
        raise ValueError(f"{name}: expected one of {', '.join(options)}, got {shown(value)}")
    return str(value)


def seed(value: Any) -> int:
    """`value` as an int in [0, 2^63).

    Raises:
        ValueError: another value, or no integer.
    """
    return count("seed", value, 0, SEED_LIMIT - 1, expected="an integer from 0 to 2^63 - 1")


def reals(name: str, value: Any) -> np.ndarray:
    """`value` as an array of real numbers: bools, integers or floats, the very memory of an array of these.

    Objects are taken where each is a number, as in tables with columns of several kinds: as float64.

    Raises:
        TypeError: no real numbers, masked or sparse ones, or an array in a file that is too large to be read unasked.
        ValueError: rows of several lengths, or an array of a file that was closed.
    """
    if _is_masked(value) or (isinstance(value, list | tuple) and any(map(_is_masked, value))):
        # NumPy would uncover the masked values.
        raise TypeError(f"{name}: expected a plain array, got a masked one; fill it first: {name}.filled(value)")
    kind = type(value)
    if not isinstance(value, np.ndarray) and hasattr(value, "toarray"):
        raise TypeError(f"{name}: expected a dense array, got a sparse one; make it dense first: {name}.toarray()")
    if kind.__module__.partition(".")[0] in FILE_LIBRARIES:
        _check_in_file(name, value)
    try:
        array = np.asarray(value)
    except MemoryError:
        raise
    except Exception as error:  # ragged lists, arrays of a device, and whatever an __array__ raises
        wrong = ValueError if isinstance(error, ValueError) else TypeError
        raise wrong(f"{name}: expected an array of numbers, got {kind.__name__}: {error}") from error
    if array.dtype.kind == "O":
        return _unboxed(name, array, value)
    if array.dtype.kind not in "buif":
        raise TypeError(f"{name}: expected an array of real numbers, got {kind.__name__} of dtype {array.dtype}")
    return array


def _is_masked(value: Any) -> bool:
    return isinstance(value, np.ndarray) and hasattr(value, "filled")


def _check_in_file(name: str, value: Any) -> None:
    """TypeError for an array in a file that would take much memory without anybody having said so, or for no array.

    ValueError where its file is closed.
    """
    kind = type(value).__name__
    try:
        nbytes = math.prod(value.shape or ()) * np.dtype(value.dtype).itemsize
    except AttributeError:  # a file or a group, which has arrays and is none
        raise TypeError(f"{name}: expected an array, got {kind}; give one of its arrays, {name}['name']") from None
    except Exception as error:
        raise ValueError(f"{name}: expected an array of an open file, got {shown(value)}: {error}") from error
    if nbytes > FILE_BYTES:
        raise TypeError(
            f"{name}: expected an array in memory, got {kind} of {nbytes} bytes in a file; read it "
            f"with {name}[...] if it fits, or give a numpy.memmap, of which only what is used is read"
        )


def _unboxed(name: str, array: np.ndarray, given: Any) -> np.ndarray:
    """An array of Python objects as float64, if each of them is a number."""
    bad = next((i for i, value in enumerate(array.flat) if not isinstance(value, REALS)), None)
    if bad is None:
        try:
            return array.astype(np.float64)
        except OverflowError:
            raise ValueError(f"{name}: expected numbers that float64 can hold, got larger integers") from None
    where, columns = np.unravel_index(bad, array.shape), getattr(given, "columns", None)
    place = ""
    if array.ndim == 2:
        column = int(where[1]) if columns is None else columns[where[1]]
        place = f", with {shown(array[where])} in row {where[0]}, column {column!r}"
    kind = f"{type(given).__name__} of dtype {array.dtype}"
    raise TypeError(f"{name}: expected an array of real numbers, got {kind}{place}")
