"""Hours of training are not lost to the place where the artifact was to go."""

import errno
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from models.weights import init_weights
from registry.artifact import ArtifactError, load
from train.publication import Publication, publish_model, require_vacant
from train.testing.example import short_config


def _publish(directory: Path) -> Publication:
    config = short_config(num_steps=1)
    return publish_model(
        directory,
        config,
        init_weights(config.model, seed=0),
        {"accuracy": 0.5},
        framework="flax",
        libraries={},
        device="cpu",
        data_digest="0" * 64,
        started_at=datetime.now(UTC),
        num_steps=1,
    )


def _refuse_renames_to(refused: Path | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Renames to `refused`, or all, fail as those to a bind mount do."""
    rename = Path.rename

    def busy(path: Path, target: Path) -> Path:
        if refused in (None, target):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", busy)


def _parent_of_length(length: int, root: Path) -> Path:
    parent = root
    while (left := length - len(str(parent)) - 1) > 0:
        parent = parent / ("d" * (left if left <= 200 else 100))
    parent.mkdir(parents=True)
    return parent


@pytest.mark.parametrize("length", [4050, 4054, 4058])
def test_a_path_too_deep_for_an_artifact_is_refused(length: int, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="File name too long"):
        require_vacant(_parent_of_length(length, tmp_path) / "a")


def test_a_path_as_deep_as_is_not_refused_can_be_published_to(tmp_path: Path) -> None:
    out = _parent_of_length(4030, tmp_path) / "a"
    require_vacant(out)
    load(_publish(out).directory)


def test_what_became_a_link_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "out").symlink_to("empty")
    assert _publish(tmp_path / "out").directory == tmp_path / "out-2"
    load(tmp_path / "out-2")
    assert list((tmp_path / "empty").iterdir()) == []


def test_what_cannot_be_replaced_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out-2").touch()
    _refuse_renames_to(tmp_path / "out", monkeypatch)
    assert _publish(tmp_path / "out").directory == tmp_path / "out-3"
    load(tmp_path / "out-3")


def test_gives_up_where_no_name_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _refuse_renames_to(None, monkeypatch)
    with pytest.raises(ArtifactError, match="cannot publish to .*/out, nor to any of 99 names"):
        _publish(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_leaves_nothing_when_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _publish(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
