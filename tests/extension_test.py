"""A network, a data source and an optimizer that no room knows: one line of a table each.

They are trained, published and loaded as those of the house are, in both frameworks.
"""

from pathlib import Path

import numpy as np
import pytest

from data.source import SOURCES
from models.architecture import ARCHITECTURES
from optim.registry import ALGORITHMS
from registry.artifact import LoadedArtifact, load
from serving.predictor import predictor
from tests.toy.network import REGRESSION
from tests.toy.optimizer import HeavyBall
from tests.toy.source import CORNERS

# All that a new one takes beside its own files. Configurations are made of the tables when the
# trainers are imported, so this comes before.
ARCHITECTURES[REGRESSION.name] = REGRESSION
SOURCES[CORNERS.name] = CORNERS
ALGORITHMS[HeavyBall.name] = HeavyBall

FRAMEWORKS = ["flax", "torch"]

# A few float32 operations a step, ordered differently, over 60 steps.
TOLERANCE = 1e-5

CONFIG = """
artifact: {name: corners, version: 0.1.0}
run: {seed: 0, num_steps: 60}
model: {architecture: toy_regression, config: {num_features: 2, num_classes: 3}}
data: {source: toy_corners, options: {distance: 3.0}, global_batch_size: 50}
optimizer: {name: toy_heavy_ball, toy_heavy_ball: {learning_rate: 0.05}}
schedule: {kind: warmup_cosine, warmup_steps: 5}
"""


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LoadedArtifact]:
    from train.checkpoint.run_directory import ARTIFACT
    from train.config.load import load_config
    from train.train_flax import train as train_flax
    from train.train_torch import train as train_torch

    directory = tmp_path_factory.mktemp("toy")
    (directory / "toy.yaml").write_text(CONFIG)
    config = load_config(directory / "toy.yaml")
    for framework, train in zip(FRAMEWORKS, (train_flax, train_torch), strict=True):
        train(config, directory / framework)
    return {framework: load(directory / framework / ARTIFACT) for framework in FRAMEWORKS}


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_it_is_trained_and_described(artifacts: dict[str, LoadedArtifact], framework: str) -> None:
    artifact = artifacts[framework].artifact
    assert artifact.metrics["accuracy"] > 0.95  # a third by chance
    assert artifact.model.architecture == "toy_regression"
    (features,), (logits,) = artifact.inputs, artifact.outputs
    assert (features.name, features.datatype, list(features.shape)) == ("features", "FP32", [-1, 2])
    assert (logits.name, list(logits.shape)) == ("logits", [-1, 3])


def test_both_frameworks_train_the_same(artifacts: dict[str, LoadedArtifact]) -> None:
    flax, torch = (artifacts[framework].tensors for framework in FRAMEWORKS)
    assert flax.keys() == torch.keys() == {"linear.weight", "linear.bias"}
    for name, tensor in flax.items():
        np.testing.assert_allclose(tensor, torch[name], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_what_is_loaded_predicts(artifacts: dict[str, LoadedArtifact], framework: str) -> None:
    test = CORNERS.load(CORNERS.options(distance=3.0)).test
    loaded = artifacts[framework]
    # Served by either framework, whichever trained it.
    for serving in FRAMEWORKS:
        predicted = predictor(loaded, serving)(test.inputs).argmax(axis=1)
        accuracy = np.mean(predicted == test.targets)
        assert accuracy == pytest.approx(loaded.artifact.metrics["accuracy"], abs=0.011)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "model.config.num_feature=2",
            "model.config.num_feature: unknown key, did you mean 'num_features'? (accepted: num_fe",
        ),
        ("data.options.distance=far", "data.options.distance: input should be a valid number"),
        (
            "data.augment={max_shift_pixels: 1, max_rotation_degrees: 1, max_scale: 0.1}",
            "data.augment: changes images [height, width, channels], but data.source 'toy_corners'",
        ),
        ("optimizer.toy_heavy_ball.beta=1.0", "toy_heavy_ball.beta: input should be less than 1"),
        ("model.config.num_classes=4", "gives [4], but task 'classification' needs [3]"),
    ],
)
def test_its_mistakes_read_as_those_of_others(tmp_path: Path, change: str, message: str) -> None:
    from train.config.load import load_config
    from train.config.schema import ConfigError

    (tmp_path / "toy.yaml").write_text(CONFIG)
    with pytest.raises(ConfigError) as error:
        load_config(tmp_path / "toy.yaml", [change])
    assert message in str(error.value)
