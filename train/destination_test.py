"""What a run publishes to a registry is checked before it begins, and there when it has ended."""

import os
from pathlib import Path

import pytest

from registry.artifact import read_descriptor
from registry.errors import ArtifactError, SignatureChangedError
from registry.example import example_artifact, example_tensors
from registry.publishing import publish
from registry.store.store import open_store
from registry.trust.signing import generate_key_pair
from train.checkpoint.run_directory import ARTIFACT
from train.config.schema import ConfigError, TrainConfig
from train.destination import Destination, check_destination, deliver, destination
from train.publication import Publication, to_proto
from train.testing.example import short_config


@pytest.fixture
def config() -> TrainConfig:
    return short_config(num_steps=2)


def published(config: TrainConfig, directory: Path, seed: int = 7) -> Publication:
    """An artifact as the run would publish it, but for its weights."""
    artifact = example_artifact()
    artifact.name, artifact.version = config.artifact.name, config.artifact.version
    artifact.training_run.seed = seed
    for field, spec in (
        ("inputs", config.model.signature.input),
        ("outputs", config.model.signature.output),
    ):
        del getattr(artifact, field)[:]
        getattr(artifact, field).append(to_proto(spec))
    return Publication(directory, publish(directory, artifact, example_tensors()))


def check(place: Destination, config: TrainConfig, run: Path, goes_on: bool = True) -> None:
    check_destination(place, config, run, goes_on=goes_on)


def test_nothing_is_made_before_there_is_something_to_publish(
    tmp_path: Path, config: TrainConfig
) -> None:
    place = destination(open_store(tmp_path / "registry"), None)
    check(place, config, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_refuses_a_version_of_another_run(tmp_path: Path, config: TrainConfig) -> None:
    place = destination(open_store(tmp_path / "registry"), None)
    deliver(place, published(config, tmp_path / "first" / ARTIFACT))
    with pytest.raises(ConfigError, match=r"artifact\.version: .* is in .* already"):
        check(place, config, tmp_path / "second")
    published(config, tmp_path / "second" / ARTIFACT, seed=8)
    with pytest.raises(ConfigError, match=r"artifact\.version"):
        check(place, config, tmp_path / "second")


def test_a_run_that_has_ended_publishes_again_what_is_there(
    tmp_path: Path, config: TrainConfig
) -> None:
    place = destination(open_store(tmp_path / "registry"), None)
    ended = published(config, tmp_path / "run" / ARTIFACT)
    first = deliver(place, ended)
    check(place, config, tmp_path / "run")
    assert deliver(place, ended) == first
    with pytest.raises(ConfigError, match=r"artifact\.version"):
        check(place, config, tmp_path / "run", goes_on=False)


def test_refuses_another_signature_before_training(tmp_path: Path, config: TrainConfig) -> None:
    store = open_store(tmp_path / "registry")
    other = example_artifact()
    other.name, other.version = config.artifact.name, config.artifact.version
    other.outputs[0].name = "other"
    publish(tmp_path / "other", other, example_tensors())
    store.publish(tmp_path / "other")
    with pytest.raises(SignatureChangedError, match="new major version"):
        check(Destination(store), config, tmp_path / "run")


def test_refuses_a_place_that_is_no_registry(tmp_path: Path, config: TrainConfig) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ArtifactError, match=r"holds 'thesis\.tex'"):
        check(destination(open_store(tmp_path), None), config, tmp_path / "run")


def test_signs_in_the_run_and_in_the_registry(tmp_path: Path, config: TrainConfig) -> None:
    generate_key_pair(tmp_path / "key.pem")
    place = destination(open_store(tmp_path / "registry"), tmp_path / "key.pem")
    ended = published(config, tmp_path / "run" / ARTIFACT)
    version = deliver(place, ended)
    assert version is not None and place.store is not None
    assert version.digest == read_descriptor(ended.directory).digest
    for directory in (ended.directory, place.store.fetch(version.digest)):
        assert len(list((directory / "signatures").glob("*.sig"))) == 1


def test_a_registry_that_fails_loses_no_training(tmp_path: Path, config: TrainConfig) -> None:
    place = destination(open_store(tmp_path / "registry"), None)
    ended = published(config, tmp_path / "run" / ARTIFACT)
    (tmp_path / "registry").symlink_to(os.devnull)
    with pytest.raises(ArtifactError, match=f"trained, and kept in {ended.directory}"):
        deliver(place, ended)
    read_descriptor(ended.directory)
