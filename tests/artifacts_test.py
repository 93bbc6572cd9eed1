"""What one framework trained, either loads, and a gateway serves: every network, every task.

Networks are trained for a few steps by the programs' own loops. The other framework then answers
for each over gRPC, from the replica that a gateway runs; two go through a whole gateway with Ray.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

from models.network import Framework
from registry.artifact import LoadedArtifact, load
from serving.client import InferenceClient, InferenceError
from serving.example import mean_of_each_row, running_server
from serving.gateway_process import running
from serving.model import served_model
from serving.predictor import predictor
from serving.replica import Replica
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
) -> None:
    trained = train(name, framework)
    arguments = ["--artifact", trained.loaded.directory, "--framework", OTHER[framework]]
    with running(*arguments, "--max-batch-size", BATCH) as gateway, gateway.client() as client:
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
        running_server(mean_of_each_row, model=model) as (address, _, _),
        InferenceClient(address) as client,
        pytest.raises(InferenceError, match=r"has the value 12\. Expected .* \[-1, 16\] below 12;"),
    ):
        client.infer(model.name, {model.input.name: np.full_like(trained.inputs, 12)})


@pytest.mark.parametrize("framework", OTHER)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_other_framework_answers_over_grpc(
    train: Train, name: str, framework: Framework
) -> None:
    trained = train(name, framework)
    model = served_model(trained.loaded, OTHER[framework])
    replica = Replica(model, OTHER[framework], BATCH)
    with (
        running_server(replica.predict, model=model, max_batch_size=BATCH) as (address, _, _),
        InferenceClient(address) as client,
    ):
        outputs = client.infer(model.name, {model.input.name: trained.inputs})
    assert outputs.keys() == {model.output.name}
    _assert_as_trained(outputs[model.output.name], trained)
