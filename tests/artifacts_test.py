"""What one framework trained, either loads, and a gateway serves: every network, every task.

Networks are trained for a few steps by the programs' own loops. The other framework then answers
for each over gRPC, from the replica that a gateway runs; two go through a whole gateway with Ray.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from models.network import Framework
from registry.artifact import LoadedArtifact, load
from serving.client.errors import InferenceError
from serving.client.sync import InferenceClient
from serving.core.model import ServedModel, served_model
from serving.predictor import predictor
from serving.replicas.model import load_model
from serving.testing.gateway_process import running
from serving.testing.grpc_server import running_grpc
from tests.effects.bases import BASES
from train import train_flax, train_torch
from train.config.schema import TrainConfig
from train.testing.parity_runs import compile_once

NETWORKS = [
    "perceptron",
    "perceptron of numbers",
    "transformer of images",
    "linear attention",
    "experts",
    "language model",
    "convolutions",
]
TRAINERS = {"flax": train_flax.train, "torch": train_torch.train}
OTHER: dict[Framework, Framework] = {"flax": "torch", "torch": "flax"}

# Relative to the largest value.
TOLERANCE = 1e-5

BATCH = 3


class Trained(NamedTuple):
    """An artifact, the framework that trained it, and examples that it has not seen."""

    loaded: LoadedArtifact
    framework: Framework
    inputs: np.ndarray


Train = Callable[[str, Framework], Trained]


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    # The artifacts of a network, whoever trained them, are the same program.
    compile_once(tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Train:
    directory = tmp_path_factory.mktemp("registry")

    @functools.cache
    def train(name: str, framework: Framework) -> Trained:
        config = TrainConfig.model_validate(BASES[name])
        published = TRAINERS[framework](config, directory / f"{name}, {framework}")
        inputs = config.data.load().test.inputs[:BATCH]
        return Trained(load(published.directory), framework, inputs)

    return train


def _assert_as_trained(outputs: np.ndarray, trained: Trained) -> None:
    """Asserts that these are the answers of the framework that trained the model."""
    expected = predictor(trained.loaded, trained.framework)(trained.inputs)
    assert outputs.dtype == np.float32
    assert outputs.shape == expected.shape
    # Examples are told apart, or anything would do.
    assert np.ptp(expected, axis=0).max() > 0
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())


@pytest.mark.parametrize(
    ("name", "framework", "signature"),
    [
        ("language model", "torch", ("tokens", "INT32", [-1, 16], "logits", [-1, 16, 12])),
        ("convolutions", "flax", ("image", "FP32", [-1, 8, 8, 1], "logits", [-1, 10])),
    ],
)
def test_a_gateway_of_the_other_framework_answers(
    train: Train,
    name: str,
    framework: Framework,
    signature: tuple[object, ...],
    tmp_path: Path,
) -> None:
    trained = train(name, framework)
    arguments = ["--model", trained.loaded.directory, "--framework", OTHER[framework]]
    arguments += ["--max-batch-size", BATCH]
    with running(*arguments, log=tmp_path / "log") as gateway, gateway.client() as client:
        told = client.model_metadata("base")
        (taken,), (given,) = told.inputs, told.outputs
        outputs = client.infer("base", {taken.name: trained.inputs})[given.name]
    assert told.platform == f"{OTHER[framework]}_safetensors"
    shapes = (taken.name, taken.datatype, [*taken.shape], given.name, [*given.shape])
    assert shapes == signature
    _assert_as_trained(outputs, trained)


def test_a_token_that_there_is_not_is_refused(train: Train) -> None:
    trained = train("language model", "torch")
    model = served_model(trained.loaded)
    with (
        _served(trained, "torch") as client,
        pytest.raises(InferenceError, match="has the value 12; expected values below 12"),
    ):
        client.infer(model.name, {"tokens": np.full_like(trained.inputs, 12)})


def test_a_sequence_shorter_than_the_others_is_answered_in_its_own_length(train: Train) -> None:
    trained = train("language model", "torch")
    model = served_model(trained.loaded)
    with _served(trained, "flax") as client:
        whole = client.infer(model.name, {"tokens": trained.inputs})["logits"]
        short = client.infer(model.name, {"tokens": trained.inputs[:, :5]})["logits"]
    # It is causal: what follows changes nothing.
    assert short.shape == (BATCH, 5, 12)
    np.testing.assert_allclose(short, whole[:, :5], rtol=0, atol=1e-4)


@pytest.mark.parametrize("framework", OTHER)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_other_framework_answers_over_grpc(
    train: Train, name: str, framework: Framework
) -> None:
    trained = train(name, framework)
    model = served_model(trained.loaded)
    (taken,), (given,) = model.inputs, model.outputs
    with _served(trained, OTHER[framework]) as client:
        outputs = client.infer(model.name, {taken.name: trained.inputs}).outputs
    assert outputs.keys() == {given.name}
    _assert_as_trained(outputs[given.name], trained)


@contextmanager
def _served(trained: Trained, framework: Framework) -> Iterator[InferenceClient]:
    """A client of a gRPC server over the model as a replica computes it, without Ray."""
    found = trained.loaded
    model: ServedModel = served_model(found, framework=framework, max_batch_size=BATCH)
    loaded = load_model(model.directory, model.digest, framework, BATCH)
    with (
        running_grpc([(model, loaded.compute)]) as server,
        InferenceClient(server.address) as client,
    ):
        yield client
