"""Sequences of different lengths in one batch: filled up before, and their answers cut back."""

from collections.abc import Mapping

import numpy as np

from serving.core.model import ServedModel

# Of each output that follows a sequence, how long that was.
Lengths = Mapping[str, int]


def fill_up(
    arrays: Mapping[str, np.ndarray], model: ServedModel
) -> tuple[Mapping[str, np.ndarray], Lengths]:
    """Fills sequences up to the length that the model was compiled for.

    Args:
        arrays: [batch, length, ...] for inputs of sequences; any shape for others.
        model: Its signature says which inputs are sequences, how long, and with what to fill.

    Returns:
        The inputs, and how much to keep of each output; the arrays themselves and nothing to cut
        where nothing is shorter than it may be.
    """
    shorter = {
        spec.name: spec
        for spec in model.inputs
        if spec.padding is not None and arrays[spec.name].shape[1] < spec.shape[1]
    }
    if not shorter:
        return arrays, {}
    filled = dict(arrays)
    for name, spec in shorter.items():
        array = arrays[name]
        filled[name] = np.full(
            (len(array), spec.shape[1], *array.shape[2:]), spec.padding, array.dtype
        )
        filled[name][:, : array.shape[1]] = array
    lengths = {
        spec.name: arrays[spec.follows].shape[1]
        for spec in model.outputs
        if spec.follows in shorter
    }
    return filled, lengths


def cut_back(outputs: Mapping[str, np.ndarray], lengths: Lengths, model: ServedModel) -> dict:
    """Keeps of each output that follows a sequence what belongs to the sequence."""
    return {
        name: array[:, : lengths[name]] if name in lengths else array
        for name, array in outputs.items()
    }
