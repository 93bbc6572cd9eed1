"""What computes an artifact: a network of this tree, or a program that it brings along."""

from collections.abc import Sequence

import numpy as np

from models.network import Framework
from registry.artifact import LoadedArtifact
from registry.programs.program import load_program
from serving.predictor import COMPILED_PER_SIZE, network_or_program, predictor
from serving.replicas.compute import Arrays, Compute


def compute_of(
    loaded: LoadedArtifact, framework: Framework | None, batch_sizes: Sequence[int]
) -> Compute:
    """Returns the function of an artifact; see `network_or_program`.

    Args:
        loaded: The artifact, verified.
        framework: Who computes; None for the framework that trained it, if that can.
        batch_sizes: To which batches are padded where each size is compiled, ascending.

    Raises:
        ArtifactError: There is neither such a network nor a program for this framework, or the
            program cannot be loaded.
        WeightsError: The weights are not those of the network.
    """
    chosen = network_or_program(loaded.artifact, framework)
    if not isinstance(chosen, str):
        return _network(loaded, framework)
    run = load_program(loaded, chosen)
    return _padded(run, batch_sizes) if chosen == COMPILED_PER_SIZE else run


def _network(loaded: LoadedArtifact, framework: Framework | None) -> Compute:
    (input_spec,), (output_spec,) = loaded.artifact.inputs, loaded.artifact.outputs
    predict = predictor(loaded, framework)

    def compute(inputs: Arrays) -> Arrays:
        return {output_spec.name: predict(inputs[input_spec.name])}

    return compute


def _padded(run: Compute, batch_sizes: Sequence[int]) -> Compute:
    """Computes batches in sizes that are compiled already, with zeros for the examples missing."""

    def compute(inputs: Arrays) -> Arrays:
        batch = len(next(iter(inputs.values())))
        size = next(size for size in batch_sizes if size >= batch)
        if size == batch:
            return run(inputs)
        results = run({name: _filled(array, size) for name, array in inputs.items()})
        return {name: result[:batch] for name, result in results.items()}

    return compute


def _filled(array: np.ndarray, size: int) -> np.ndarray:
    filled = np.zeros((size, *array.shape[1:]), array.dtype)
    filled[: len(array)] = array
    return filled
