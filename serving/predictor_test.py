"""One artifact predicts the same in both frameworks, and a wrong one is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from models.architecture import ModelConfigError, parse_model
from models.network import Framework
from models.weights import WeightsError, init_weights
from registry.artifact import LoadedArtifact, load, publish
from registry.example import MODEL_CONFIG, example_artifact
from serving.predictor import model_of, predictor

# Both frameworks compute in float32 in different orders; logits of this model are of order 1.
FLOAT32_ATOL = 1e-4


def published(directory: Path, **changes: object) -> LoadedArtifact:
    """An artifact of the example model, whose description is then changed."""
    model = parse_model("mlp", MODEL_CONFIG)
    rng = np.random.default_rng(5)
    weights = {
        name: weight + rng.normal(0, 0.1, weight.shape).astype(np.float32)
        for name, weight in init_weights(model, seed=0).items()
    }
    artifact = example_artifact()
    artifact.model.config_json = json.dumps(MODEL_CONFIG | changes)
    publish(directory, artifact, weights)
    return load(directory)


def test_both_frameworks_predict_the_same(tmp_path: Path) -> None:
    loaded = published(tmp_path / "artifact")
    images = np.random.default_rng(1).random((5, 8, 8, 1), dtype=np.float32)
    flax, torch = predictor(loaded, "flax")(images), predictor(loaded, "torch")(images)
    assert flax.shape == (5, 10)
    assert flax.dtype == torch.dtype == np.float32
    assert np.ptp(flax, axis=1).min() > FLOAT32_ATOL  # the classes do differ
    np.testing.assert_allclose(flax, torch, atol=FLOAT32_ATOL, rtol=0)


def test_framework_defaults_to_the_one_that_trained(tmp_path: Path) -> None:
    loaded = published(tmp_path / "artifact")
    images = np.random.default_rng(1).random((2, 8, 8, 1), dtype=np.float32)
    np.testing.assert_array_equal(predictor(loaded)(images), predictor(loaded, "flax")(images))


def test_unknown_configuration_is_refused_before_there_are_weights(tmp_path: Path) -> None:
    artifact = published(tmp_path / "artifact", hiden_sizes=[16]).artifact
    with pytest.raises(ModelConfigError, match="hiden_sizes"):
        model_of(artifact)


@pytest.mark.parametrize("framework", ["flax", "torch"])
def test_weights_of_another_model_are_refused(tmp_path: Path, framework: Framework) -> None:
    loaded = published(tmp_path / "artifact", num_blocks=2)
    with pytest.raises(WeightsError, match=r"blocks\.1\.mixer"):
        predictor(loaded, framework)
