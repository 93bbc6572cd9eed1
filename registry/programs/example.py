"""A linear layer as an artifact with programs, for tests: made of the libraries alone."""

import io
from pathlib import Path

import jax
import jax.export
import numpy as np
import torch
from hpc.artifact.v1 import artifact_pb2

from registry.artifact import LoadedArtifact, load, publish
from registry.example import example_artifact
from registry.programs.formats import FORMATS, PROBE_PATH
from registry.programs.probe import write_probe

WEIGHTS: dict[str, np.ndarray] = {
    "weight": np.arange(12, dtype=np.float32).reshape(3, 4) / 8,
    "bias": np.array([0.5, -1.0, 2.0], np.float32),
}
PROBE = np.linspace(-1.0, 1.0, 8, dtype=np.float32).reshape(2, 4)


def expected(features: np.ndarray) -> np.ndarray:
    """Returns what the layer gives, by NumPy."""
    return features @ WEIGHTS["weight"].T + WEIGHTS["bias"]


def stablehlo() -> bytes:
    """Returns the layer as a program of StableHLO."""

    def program(
        weights: dict[str, jax.Array], inputs: dict[str, jax.Array]
    ) -> dict[str, jax.Array]:
        return {"logits": inputs["features"] @ weights["weight"].T + weights["bias"]}

    (batch,) = jax.export.symbolic_shape("batch")
    weights = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in WEIGHTS.items()}
    inputs = {"features": jax.ShapeDtypeStruct((batch, 4), np.float32)}
    return bytes(jax.export.export(jax.jit(program))(weights, inputs).serialize())


class Layer(torch.nn.Module):
    """The layer as `torch.export` takes it."""

    def forward(
        self, weights: dict[str, torch.Tensor], inputs: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        y = torch.nn.functional.linear(inputs["features"], weights["weight"], weights["bias"])
        return {"logits": y}


def torch_export(module: torch.nn.Module | None = None) -> bytes:
    """Returns the layer, or another module of the same arguments, as a program of torch.export."""
    weights = {name: torch.tensor(WEIGHTS[name]) for name in sorted(WEIGHTS)}
    dynamic = {
        "weights": dict.fromkeys(weights),
        "inputs": {"features": {0: torch.export.Dim("batch", min=1)}},
    }
    program = torch.export.export(
        module or Layer(), (weights, {"features": torch.zeros(2, 4)}), dynamic_shapes=dynamic
    ).run_decompositions({})
    program.example_inputs = None
    file = io.BytesIO()
    torch.export.save(program, file)
    return file.getvalue()


def signature() -> artifact_pb2.Artifact:
    """Returns a descriptor of which only inputs and outputs are the layer's."""
    artifact = example_artifact()
    del artifact.inputs[:], artifact.outputs[:]
    artifact.inputs.add(name="features", datatype="FP32", shape=[-1, 4])
    artifact.outputs.add(name="logits", datatype="FP32", shape=[-1, 3])
    return artifact


def files(programs: dict[str, bytes]) -> dict[str, bytes]:
    """Returns the files that an artifact with these programs has, the probe's among them."""
    probe = write_probe({"features": PROBE}, {"logits": expected(PROBE)})
    return {PROBE_PATH: probe} | {FORMATS[name].path: x for name, x in programs.items()}


def loaded(directory: Path, programs: dict[str, bytes]) -> LoadedArtifact:
    """Publishes an artifact with these programs in a new directory, and loads it."""
    artifact = signature()
    artifact.probe_path = PROBE_PATH
    for name in programs:
        artifact.programs.add(
            format=FORMATS[name].number, path=FORMATS[name].path, library_version="1"
        )
    publish(directory, artifact, WEIGHTS, files(programs))
    return load(directory)
