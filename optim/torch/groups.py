"""Parameter groups: the hyperparameters in them, by their names in torch, and keys of others.

Anything may set them between steps, as schedulers do, so they are checked whenever they are used.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from optim.algorithm import Algorithm
from optim.registry import ALGORITHMS

# What torch has in a group besides hyperparameters and what schedulers and users keep there.
_OF_TORCH = frozenset({"params", "param_names"})

_RATE, _RATE_IN_GROUPS = "learning_rate", "lr"


def to_group(algorithm: Algorithm) -> dict[str, Any]:
    """Returns an algorithm's hyperparameters as torch has them in a group."""
    return {_in_groups(key): value for key, value in algorithm.model_dump().items()}


def to_algorithm(kind: type[Algorithm], group: dict[str, Any], number: int) -> Algorithm:
    """Returns the algorithm with a group's hyperparameters.

    Args:
      kind: Of algorithm.
      group: Of parameters, with all of the hyperparameters.
      number: The group's place.

    Raises:
      ValueError: One is missing, of a wrong type or out of range.
    """
    try:
        return kind(**{key: group[_in_groups(key)] for key in kind.model_fields})
    except KeyError as error:
        raise ValueError(f"parameter group {number} has no {error.args[0]}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = _in_groups(str(first["loc"][0]))
        raise ValueError(
            f"parameter group {number} has a bad {key}, {group[key]!r}: {first['msg']}"
        ) from None


def check_new_keys(kind: type[Algorithm], keys: Iterable[str]) -> None:
    """Refuses keys that look like hyperparameters and are not, as those of another optimizer are.

    All others are for whoever put them there.

    Raises:
      ValueError: One does.
    """
    own = [_in_groups(key) for key in kind.model_fields]
    unknown = [
        key
        for key in sorted({*keys} - _OF_TORCH - {*own})
        if key in foreign_hyperparameters(kind) or get_close_matches(key, [*own, _RATE], n=1)
    ]
    if unknown:
        raise ValueError(
            f"a parameter group has the unknown keys {unknown}; accepted: {', '.join(sorted(own))}"
        )


def foreign_hyperparameters(kind: type[Algorithm]) -> set[str]:
    """Returns the names of hyperparameters that only other algorithms have."""
    return {key for other in ALGORITHMS.values() for key in other.model_fields} - {
        *kind.model_fields
    }


def _in_groups(key: str) -> str:
    return _RATE_IN_GROUPS if key == _RATE else key
