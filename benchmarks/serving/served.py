"""The models that are served: networks of ours with random weights, of known cost."""

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from hpc.artifact.v1 import artifact_pb2

from benchmarks.serving.cases import DIGITS, MIB, MLP
from benchmarks.serving.job import Job, write_job
from models.architecture import Model, parse_model
from models.weights import weight_shapes
from registry.artifact import publish
from train.config.load import load_config
from train.publication import to_proto

_PRESETS_DIR = Path(__file__).parents[2] / "config"
_VERSION = "1.0.0"
_FLOAT32_BYTES = 4

# As large as a trained network's, so that answers differ from example to example.
_WEIGHTS_STDDEV = 0.3


class Served(NamedTuple):
    """A model as our gateway and as the others are given it.

    Attributes:
        job: What the others are told.
        job_file: Where it is written down.
        artifact: The directory of the same model as an artifact.
    """

    job: Job
    job_file: Path
    artifact: Path


def small_model(name: str) -> Model:
    """Returns a model of which a request holds little."""
    if name == DIGITS:
        return load_config(_PRESETS_DIR / f"{DIGITS}.yaml").model
    assert name == MLP
    layers = {"input": {"vector": {"shape": [8, 8, 1]}}, "hidden_sizes": [16], "num_classes": 10}
    return parse_model("mlp", layers)


def tensor_model(mebibytes: int) -> Model:
    """Returns a model that takes a large vector and does no more than add it up, weighted."""
    size = mebibytes * MIB // _FLOAT32_BYTES
    layers = {
        "input": {"vector": {"shape": [size]}},
        "hidden_sizes": [1],
        "activation": "identity",
        "head": {"kind": "regression", "num_targets": 1},
    }
    return parse_model("mlp", layers)


def serve_as(name: str, model: Model, directory: Path) -> Served:
    """Writes a model down for all servers, the same random weights for each.

    Args:
        name: Under which it is asked for.
        model: Which.
        directory: Is made.
    """
    rng = np.random.default_rng(0)
    weights = {
        # Sums of so many terms stay about 1, whatever the size of the input.
        key: rng.normal(0, _WEIGHTS_STDDEV / max(1.0, shape[-1] / MIB), shape).astype(np.float32)
        for key, shape in weight_shapes(model).items()
    }
    directory.mkdir()
    np.savez(directory / "weights.npz", **weights)  # type: ignore[arg-type]  # of numpy's stubs
    job = Job(
        name=name,
        architecture=model.architecture,
        config=model.config.model_dump(mode="json"),
        weights=str(directory / "weights.npz"),
        input=model.signature.input.name,
        input_shape=model.signature.input.shape,
        output=model.signature.output.name,
        path=sys.path,
    )
    write_job(job, directory / "job.json")
    publish(directory / "artifact", _descriptor(name, model), weights)
    return Served(job, directory / "job.json", directory / "artifact")


def _descriptor(name: str, model: Model) -> artifact_pb2.Artifact:
    return artifact_pb2.Artifact(
        name=name,
        version=_VERSION,
        framework=artifact_pb2.FRAMEWORK_TORCH,
        model=artifact_pb2.Model(
            architecture=model.architecture, config_json=model.config.model_dump_json()
        ),
        inputs=[to_proto(model.signature.input)],
        outputs=[to_proto(model.signature.output)],
        training_run=artifact_pb2.TrainingRun(
            git_commit="unknown", config_digest="0" * 64, data_digest="0" * 64
        ),
    )
