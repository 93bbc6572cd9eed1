"""From an artifact to a function that computes batches, verified and warm.

It knows neither Ray, which runs it, nor gRPC, from which the requests come.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from models.network import Framework
from models.weights import WeightsError
from registry.artifact import ArtifactError, LoadedArtifact, load
from serving.core.model import tensor_spec
from serving.core.signature import DTYPES, TensorSpec, zeros
from serving.replicas.compute import Compute
from serving.replicas.errors import RefusedArtifactError
from serving.replicas.network import compute_of


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory.

    Attributes:
        digest: Of the artifact.
        version: The model's semantic version.
        inputs: What a batch holds.
        outputs: What is computed of it.
        batch_sizes: For which it is warm, ascending; the last is the largest batch.
        compute: A function of a batch of any size up to the largest, called from one thread.
    """

    digest: str
    version: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batch_sizes: tuple[int, ...]
    compute: Compute

    def refusal(self, inputs: Mapping[str, np.ndarray], wanted: Sequence[str]) -> str:
        """Returns what is wrong with a batch; "" if nothing is."""
        if inputs.keys() != self._input_names:
            return f"inputs {', '.join(inputs)}; expected {', '.join(sorted(self._input_names))}"
        sizes = {len(array) for array in inputs.values()}
        if len(sizes) != 1 or not 1 <= min(sizes) <= self.batch_sizes[-1]:
            return f"batches of {sorted(sizes)}; expected one size from 1 to {self.batch_sizes[-1]}"
        for spec in self.inputs:
            array = inputs[spec.name]
            if not _fits(array, spec):
                return f"{spec.name} is {array.dtype} {list(array.shape)}; expected {spec}"
        if not wanted or not self._output_names.issuperset(wanted):
            known = ", ".join(sorted(self._output_names))
            return f"outputs {', '.join(wanted)}; expected some of {known}"
        return ""

    @cached_property
    def _input_names(self) -> frozenset[str]:
        return frozenset(spec.name for spec in self.inputs)

    @cached_property
    def _output_names(self) -> frozenset[str]:
        return frozenset(spec.name for spec in self.outputs)


def batch_sizes(max_batch_size: int) -> tuple[int, ...]:
    """Returns the sizes that are warmed: the powers of two up to the largest batch, and that one.

    A batch is padded to the next of them, so that a program is compiled for a handful of sizes.
    """
    powers = {2**exponent for exponent in range(max_batch_size.bit_length())}
    return tuple(sorted({*powers, max_batch_size}))


def load_model(
    directory: Path, digest: str, framework: Framework | None, max_batch_size: int
) -> LoadedModel:
    """Loads the model of an artifact and computes one batch of each size, so that it is warm.

    Args:
        directory: Of the artifact, whose every byte is verified here.
        digest: That it must have.
        framework: Who computes; None for the framework that trained the model.
        max_batch_size: Of the batches that will come.

    Raises:
        RefusedArtifactError: A file is corrupt, the weights are not those of the network, it is
            another artifact, neither this tree nor the artifact has a network to compute, or a
            program does not do what the signature says.
    """
    try:
        loaded = load(directory)
        if loaded.digest != digest:
            raise ArtifactError(f"{directory} is not the artifact {digest} that was to be served")
        model = _model_of(loaded, framework, max_batch_size)
        for batch_size in model.batch_sizes:
            model.compute({spec.name: zeros(spec, batch_size) for spec in model.inputs})
    except (ArtifactError, WeightsError) as error:
        raise RefusedArtifactError(str(error)) from error
    return model


def _model_of(
    loaded: LoadedArtifact, framework: Framework | None, max_batch_size: int
) -> LoadedModel:
    artifact, sizes = loaded.artifact, batch_sizes(max_batch_size)
    return LoadedModel(
        digest=loaded.digest,
        version=artifact.version,
        inputs=tuple(map(tensor_spec, artifact.inputs)),
        outputs=tuple(map(tensor_spec, artifact.outputs)),
        batch_sizes=sizes,
        compute=compute_of(loaded, framework, sizes),
    )


def _fits(array: np.ndarray, spec: TensorSpec) -> bool:
    """Whether an array is as the signature has it; its first dimension is the batch."""
    shape = array.shape
    if array.dtype != DTYPES[spec.datatype]:
        return False
    if shape[1:] == spec.shape[1:]:  # Nearly always, and four times as fast to tell.
        return True
    return len(shape) == len(spec.shape) and all(
        size in (-1, got) for size, got in zip(spec.shape, shape, strict=True)
    )
