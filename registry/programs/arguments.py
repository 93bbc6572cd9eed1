"""Holds the weights of an artifact to what one of its programs takes."""

from collections.abc import Mapping

import numpy as np

from registry.programs.errors import ProgramError

# Shape and NumPy's name of the type, by the name of the weight.
Kinds = Mapping[str, tuple[tuple[int, ...], str]]

_MAX_PROBLEMS = 3


def check_weights(weights: Mapping[str, np.ndarray], wanted: Kinds) -> None:
    """Raises ProgramError unless weights are exactly those that a program takes."""
    problems = [f"it takes {name}" for name in wanted if name not in weights]
    problems += [f"it does not take {name}" for name in weights if name not in wanted]
    for name, (shape, dtype) in wanted.items():
        if name in weights:
            found = weights[name].shape, weights[name].dtype.name
            if found != (tuple(shape), dtype):
                problems.append(
                    f"it takes {name} as {dtype} {list(shape)}, got {found[1]} {list(found[0])}"
                )
    if problems:
        more = len(problems) - _MAX_PROBLEMS
        shown = "; ".join(problems[:_MAX_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")
        raise ProgramError(f"the program is not of these weights: {shown}")
