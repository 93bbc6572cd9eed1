"""Checks of the arguments of operations: a value of its type, or an error that names the argument.

Scalars of numpy (and its arrays of no dimension) count as Python's. Arrays of the frameworks do
not: they may be traced, and options are known when a call is traced. A bool is no number, a string
is never anything but a string.

torch.compile traces it for Python's own numbers, which it makes symbolic, but not for numpy's.
"""

import sys
from typing import Any

import numpy as np


def boolean(name: str, value: Any) -> bool:
    """Returns the value of a switch.

    Raises:
      TypeError: it is neither True nor False.
    """
    if isinstance(value, bool):
        return value
    if _is_scalar(value, "b"):
        return bool(value)
    raise TypeError(f"{name} must be True or False, got {given(value)}")


def integer(name: str, value: Any, *, at_least: int | None = None, or_else: str = "") -> int:
    """Returns a whole number.

    Args:
      name: of the argument.
      value: of the argument.
      at_least: the smallest that is accepted.
      or_else: what the caller accepts besides, such as " or None", for the message.

    Raises:
      TypeError: it is not an integer.
      ValueError: it is smaller than `at_least`.
    """
    if isinstance(value, bool) or not (isinstance(value, int) or _is_symbolic(value, "SymInt")):
        if not _is_scalar(value, "iu"):
            raise TypeError(f"{name} must be an int{or_else}, got {given(value)}")
        value = int(value)
    if at_least is not None and value < at_least:
        raise ValueError(f"{name} must be at least {at_least}, got {value}")
    number: int = value
    return number


def real(name: str, value: Any, *, or_else: str = "") -> float:
    """Returns a finite number.

    Args:
      name: of the argument.
      value: of the argument.
      or_else: what the caller accepts besides, such as " or None", for the message.

    Raises:
      TypeError: it is not a number.
      ValueError: it is not finite.
    """
    is_number = isinstance(value, (int, float)) or _is_symbolic(value, "SymInt", "SymFloat")
    if isinstance(value, bool) or not is_number:
        if not _is_scalar(value, "iuf"):
            raise TypeError(f"{name} must be a Python number{or_else}, got {given(value)}")
        value = float(value)
    # Not math.isfinite, which torch.compile cannot trace.
    if not -sys.float_info.max <= value <= sys.float_info.max:
        raise ValueError(f"{name} must be finite, got {value}")
    return float(value)


def real_dtype(name: str, dtype: str) -> None:
    """Raises TypeError unless an array of this dtype holds numbers that are not complex."""
    if "float" not in dtype and "int" not in dtype:
        raise TypeError(f"{name} must be numbers, got {dtype}")


def integer_dtype(name: str, dtype: str) -> None:
    """Raises TypeError unless an array of this dtype holds integers."""
    if "int" not in dtype:
        raise TypeError(f"{name} must be integers, got {dtype}")


def given(value: Any) -> str:
    """What was given, for a message: its type, and where it is short its value."""
    kind = type(value).__name__
    if isinstance(value, (bool, int, float, str)):
        text = repr(value)
        return f"{kind} {text if len(text) <= 40 else text[:40] + '...'}"
    return kind


def _is_scalar(value: Any, kinds: str) -> bool:
    """Whether a value is one number of numpy's, of these kinds of dtype."""
    is_numpy = isinstance(value, (np.generic, np.ndarray))
    return is_numpy and value.ndim == 0 and value.dtype.kind in kinds


def _is_symbolic(value: Any, *names: str) -> bool:
    """Whether a value is a number that torch traces; torch itself is not imported for it."""
    return type(value).__module__ == "torch" and type(value).__name__ in names
