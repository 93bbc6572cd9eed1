"""A model of several inputs and outputs of many datatypes, published as anybody may publish one.

It is no network of this tree: the artifact has it as programs of StableHLO and of torch.export.
What it computes is written three times here, and NumPy's is what tests compare with.
"""

import io
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.export
import ml_dtypes
import numpy as np
import torch
from hpc.artifact.v1 import artifact_pb2
from jax import numpy as jnp

from registry.artifact import publish
from registry.example import example_artifact
from registry.programs.formats import FORMATS, PROBE_PATH
from registry.programs.probe import write_probe

# Elements of a sequence at most, tokens that there are, and numbers that stand for each of them.
LENGTH, TOKENS, WIDTH = 6, 16, 4

# Neither is a number of 32 bits.
FAR = 2**40
NEAR = 2.0**-40

WEIGHTS: dict[str, np.ndarray] = {
    "far": np.array(FAR, np.int64),
    "near": np.array(NEAR, np.float64),
    "table": np.arange(TOKENS * WIDTH, dtype=np.float32).reshape(TOKENS, WIDTH) / 8,
}

# Name, datatype, NumPy's type, and the shape of an example.
INPUTS = (
    ("brain", "BF16", ml_dtypes.bfloat16, (3,)),
    ("exact", "FP64", np.float64, ()),
    ("half", "FP16", np.float16, (3,)),
    ("ids", "INT64", np.int64, (LENGTH,)),
    ("mask", "BOOL", np.bool_, (LENGTH,)),
    ("pixels", "UINT8", np.uint8, (2, 2)),
    ("scale", "FP32", np.float32, ()),
)
OUTPUTS = (
    ("brain", "BF16", (3,), ""),
    ("embedded", "FP32", (LENGTH, WIDTH), "ids"),
    ("exact", "FP64", (), ""),
    ("half", "FP16", (3,), ""),
    ("kept", "BOOL", (LENGTH,), "mask"),
    ("length", "INT64", (), ""),
    ("pixels", "UINT8", (2, 2), ""),
)

Arrays = dict[str, np.ndarray]


def examples(batch: int, length: int = LENGTH, seed: int = 5) -> Arrays:
    """Random inputs, with sequences of the given length."""
    rng = np.random.default_rng(seed)
    return {
        "brain": rng.normal(size=(batch, 3)).astype(ml_dtypes.bfloat16),
        "exact": rng.normal(size=batch),
        "half": rng.normal(size=(batch, 3)).astype(np.float16),
        "ids": rng.integers(0, TOKENS, (batch, length)),
        "mask": rng.random((batch, length)) < 0.8,
        "pixels": rng.integers(0, 256, (batch, 2, 2), np.uint8),
        "scale": rng.normal(size=batch).astype(np.float32),
    }


def expected(inputs: Mapping[str, np.ndarray]) -> Arrays:
    """What the model gives, by NumPy, for sequences as long as they are."""
    mask, ids = inputs["mask"], inputs["ids"]
    rows = WEIGHTS["table"][ids] * mask[:, :, np.newaxis]
    return {
        "brain": -inputs["brain"],
        "embedded": rows * inputs["scale"][:, np.newaxis, np.newaxis],
        "exact": inputs["exact"] + NEAR,
        "half": inputs["half"] * np.float16(2),
        "kept": mask & (ids > 0),
        "length": mask.sum(axis=1) + FAR,
        "pixels": 255 - inputs["pixels"],
    }


def publish_several(directory: Path) -> None:
    """Publishes the model with both programs."""
    artifact = example_artifact()
    artifact.name = "several"
    artifact.model.CopyFrom(artifact_pb2.Model(architecture="of_others", config_json="{}"))
    del artifact.inputs[:], artifact.outputs[:]
    for name, datatype, _, shape in INPUTS:
        artifact.inputs.add(name=name, datatype=datatype, shape=[-1, *shape])
        if shape == (LENGTH,):
            artifact.inputs[-1].padding = 0
    for name, datatype, shape, follows in OUTPUTS:
        artifact.outputs.add(name=name, datatype=datatype, shape=[-1, *shape], follows=follows)
    artifact.probe_path = PROBE_PATH
    files = {PROBE_PATH: write_probe(examples(2), expected(examples(2)))}
    for format_name, content in (("stablehlo", stablehlo()), ("torch_export", torch_export())):
        kind = FORMATS[format_name]
        artifact.programs.add(format=kind.number, path=kind.path, library_version="1")
        files[kind.path] = content
    publish(directory, artifact, WEIGHTS, files)


def stablehlo() -> bytes:
    """The model as a program of StableHLO."""

    def program(
        weights: dict[str, jax.Array], inputs: dict[str, jax.Array]
    ) -> dict[str, jax.Array]:
        mask, ids = inputs["mask"], inputs["ids"]
        rows = weights["table"][ids] * mask[:, :, jnp.newaxis]
        return {
            "brain": -inputs["brain"],
            "embedded": rows * inputs["scale"][:, jnp.newaxis, jnp.newaxis],
            "exact": inputs["exact"] + weights["near"],
            "half": inputs["half"] * 2,
            "kept": mask & (ids > 0),
            "length": mask.sum(axis=1) + weights["far"],
            "pixels": 255 - inputs["pixels"],
        }

    (batch,) = jax.export.symbolic_shape("batch")
    with jax.enable_x64(True):
        weights = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in WEIGHTS.items()}
        inputs = {n: jax.ShapeDtypeStruct((batch, *shape), t) for n, _, t, shape in INPUTS}
        return bytes(jax.export.export(jax.jit(program))(weights, inputs).serialize())


class Several(torch.nn.Module):
    """The model as `torch.export` takes it."""

    def forward(
        self, weights: dict[str, torch.Tensor], inputs: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        mask, ids = inputs["mask"], inputs["ids"]
        rows = torch.nn.functional.embedding(ids, weights["table"]) * mask[:, :, None]
        return {
            "brain": -inputs["brain"],
            "embedded": rows * inputs["scale"][:, None, None],
            "exact": inputs["exact"] + weights["near"],
            "half": inputs["half"] * 2,
            "kept": mask & (ids > 0),
            "length": mask.sum(dim=1) + weights["far"],
            "pixels": 255 - inputs["pixels"],
        }


def torch_export() -> bytes:
    """The model as a program of torch.export."""
    weights = {name: torch.tensor(array) for name, array in WEIGHTS.items()}
    of_two = {
        name: torch.zeros((2, *shape), dtype=getattr(torch, np.dtype(dtype).name))
        for name, _, dtype, shape in INPUTS
    }
    batch = torch.export.Dim("batch", min=1)
    dynamic = {
        "weights": dict.fromkeys(weights),
        "inputs": {name: {0: batch} for name in of_two},
    }
    program = torch.export.export(Several(), (weights, of_two), dynamic_shapes=dynamic)
    program = program.run_decompositions({})
    program.example_inputs = None
    file = io.BytesIO()
    torch.export.save(program, file)
    return file.getvalue()
