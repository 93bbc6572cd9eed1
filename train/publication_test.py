"""What training publishes is there whole or not at all."""

from pathlib import Path

import pytest
from hpc.artifact.v1 import artifact_pb2

from data.source import SOURCES
from models.weights import init_weights
from registry.artifact import ArtifactError, load
from registry.descriptor import check
from registry.example import example_artifact
from train.publication import Publication, publication_at, to_image_preprocessing
from train.testing.example import publish_untrained, short_config


def _publish(directory: Path) -> Publication:
    config = short_config(num_steps=1)
    return publish_untrained(config, init_weights(config.model, seed=0), directory)


def test_it_can_be_found_again(tmp_path: Path) -> None:
    published = _publish(tmp_path / "out")
    assert publication_at(tmp_path / "out") == published
    load(published.directory)


def test_metrics_have_their_intervals_and_the_number_of_examples(tmp_path: Path) -> None:
    artifact = _publish(tmp_path / "out").artifact
    assert dict(artifact.metrics) == {"accuracy": 0.5}
    intervals = {name: (i.low, i.high) for name, i in artifact.metric_intervals.items()}
    assert intervals == {"accuracy": (0.25, 0.75)}
    assert artifact.num_evaluated == 8


def test_it_says_how_an_image_becomes_the_input(tmp_path: Path) -> None:
    artifact = _publish(tmp_path / "out").artifact
    assert artifact.image_preprocessing == artifact_pb2.ImagePreprocessing(
        height=8,
        width=8,
        color_mode=artifact_pb2.COLOR_MODE_GREY,
        resampling=artifact_pb2.RESAMPLING_BOX,
        fit=artifact_pb2.FIT_PAD,
        scale=1 / 255,
        light_on_dark=True,
    )


@pytest.mark.parametrize("name", SOURCES)
def test_what_a_source_says_of_images_is_accepted_of_an_artifact(name: str) -> None:
    source = SOURCES[name]
    examples = source.describe(source.options())
    if examples.image_preprocessing is None:
        assert name not in ("digits", "mnist10k")
        return
    artifact = example_artifact()
    artifact.inputs[0].shape[1:] = examples.input_shape
    artifact.image_preprocessing.CopyFrom(to_image_preprocessing(examples))
    check(artifact)


def test_refuses_a_place_that_is_taken(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").write_text("mine")
    with pytest.raises(ArtifactError, match="exists and is not empty"):
        _publish(tmp_path / "out")
    assert (tmp_path / "out" / "file").read_text() == "mine"


def test_leaves_nothing_when_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _publish(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
