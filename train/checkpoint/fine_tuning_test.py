"""A run takes of another model what fits, and says what did not."""

from pathlib import Path

import numpy as np
import pytest

from models.weights import init_weights
from registry.artifact import LoadedArtifact, load
from train.checkpoint.fine_tuning import first_weights, inherit
from train.config.schema import ConfigError, TrainConfig
from train.testing.example import publish_untrained, short_config


def _artifact(config: TrainConfig, directory: Path) -> LoadedArtifact:
    weights = {name: w + 1 for name, w in init_weights(config.model, seed=1).items()}
    return load(publish_untrained(config, weights, directory).directory)


def test_the_same_network_inherits_everything(tmp_path: Path) -> None:
    config = short_config(num_steps=1)
    artifact = _artifact(config, tmp_path / "a")
    inherited = inherit(config.model, 0, artifact)
    assert (inherited.missing, inherited.left) == ([], [])
    for name, weight in inherited.weights.items():
        np.testing.assert_array_equal(weight, artifact.tensors[name])
    assert str(inherited) == f"{len(artifact.tensors)} tensors loaded"


def test_another_head_and_more_blocks_are_drawn(tmp_path: Path) -> None:
    config = short_config(num_steps=1)
    artifact = _artifact(config, tmp_path / "a")
    changed = config.model.config.model_copy(update={"num_classes": 12, "num_blocks": 2})
    model = config.model.model_copy(update={"config": changed})
    inherited = inherit(model, 5, artifact)
    drawn = init_weights(model, 5)
    assert inherited.weights.keys() == drawn.keys()
    for name, weight in inherited.weights.items():
        expected = artifact.tensors if name in inherited.loaded else drawn
        np.testing.assert_array_equal(weight, expected[name])
    assert "head.weight [12, 64]" in inherited.missing
    assert "head.weight [10, 64]" in inherited.left
    assert sorted(inherited.left) == ["head.bias [10]", "head.weight [10, 64]"]
    said = str(inherited)
    assert said.startswith(f"{len(inherited.loaded)} tensors loaded; drawn anew: ")
    assert said.endswith(f"left in the artifact: {', '.join(inherited.left)}")


def test_a_model_of_which_nothing_fits_is_refused(tmp_path: Path) -> None:
    config = short_config(num_steps=1)
    artifact = tmp_path / "a"
    publish_untrained(config, {"other.weight": np.zeros((2, 3), np.float32)}, artifact)
    with pytest.raises(ConfigError) as refused:
        first_weights(config.model, 0, artifact)
    message = str(refused.value)
    assert message.startswith(f"--init-from {artifact}: none of its tensors has the name and the ")
    assert "it has other.weight [2, 3]; expected embedding." in message
