"""Publishing is all or nothing, whatever ends it, and replaces nothing."""

import errno
import os
import resource
import shutil
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from registry.artifact import ArtifactError, PlaceTakenError, load, publish
from registry.example import example_artifact, example_tensors

# Three files and their directory; a fifth call, for the parent, follows the rename.
NUM_FSYNC_BEFORE_RENAME = 4


@pytest.fixture
def published(tmp_path: Path) -> Path:
    directory = tmp_path / "artifact"
    publish(directory, example_artifact(), example_tensors())
    return directory


def publish_or_refuse(directory: Path, tensors: dict[str, np.ndarray]) -> bool:
    """Publishes what loads again the same, or refuses and leaves nothing; True if published."""
    try:
        publish(directory, example_artifact(), tensors)
    except ArtifactError:
        assert not directory.parent.exists()
        return False
    loaded = load(directory).tensors
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype.newbyteorder("=")
        np.testing.assert_array_equal(loaded[name], tensor)
    return True


# Lone surrogates too, which are in Python's strings and not in UTF-8.
any_text = st.text(st.characters(exclude_categories=[]))


@given(names=st.lists(any_text | st.just("__metadata__"), min_size=1, max_size=3, unique=True))
def test_any_name_loads_again_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    directory = tmp_path_factory.mktemp("names") / "parent" / "artifact"
    tensors = {name: np.array([index]) for index, name in enumerate(names)}
    encodable = all(not 0xD800 <= ord(c) <= 0xDFFF for name in names for c in name)
    assert publish_or_refuse(directory, tensors) == (encodable and "__metadata__" not in names)


@pytest.mark.parametrize(
    "name",
    ["", " ", "\0", "a/b", "../a", "é", "\u2028", '"\\', "__metadata__ ", "x" * 100_000],
    ids=lambda name: repr(name[:9]),
)
def test_unusual_name_loads_again(tmp_path: Path, name: str) -> None:
    assert publish_or_refuse(tmp_path / "parent" / "artifact", {name: np.zeros(3)})


def test_name_that_safetensors_reserves_is_refused(tmp_path: Path) -> None:
    tensors = example_tensors() | {"__metadata__": np.zeros(3)}
    with pytest.raises(ArtifactError, match="'__metadata__': safetensors reserves that name"):
        publish(tmp_path / "artifact", example_artifact(), tensors)
    assert not list(tmp_path.iterdir())


DTYPES = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"]
OTHER_DTYPES = ["g", "F", "D", "O", "S3", "U3", "V4", "M8[s]", "m8[s]", "f4,i4"]
OTHER_DTYPES += [ml_dtypes.float8_e4m3, ml_dtypes.float8_e5m2fnuz, ml_dtypes.int4]


@pytest.mark.parametrize("dtype", [f"{order}{dtype}" for order in "<>" for dtype in DTYPES])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (2, 3), (1,) * 64], ids=str)
def test_every_dtype_and_shape_loads_again(
    tmp_path: Path, dtype: str, shape: tuple[int, ...]
) -> None:
    tensor = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    assert publish_or_refuse(tmp_path / "parent" / "artifact", {"tensor": tensor})


@pytest.mark.parametrize("dtype", OTHER_DTYPES, ids=str)
def test_other_dtype_is_refused(tmp_path: Path, dtype: Any) -> None:
    tensor = np.zeros(2, dtype)
    assert not publish_or_refuse(tmp_path / "parent" / "artifact", {"tensor": tensor})


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"w": [1.0]}, r"tensor 'w' is a builtins\.list; expected a numpy array"),
        ({"w": np.ma.array([1.0], mask=[True])}, r"tensor 'w' is a numpy\.ma\.\S*MaskedArray"),
        ({7: np.zeros(1)}, "tensor name 7 is a int; expected a string"),
    ],
)
def test_what_is_no_named_array_is_refused(tmp_path: Path, tensors: Any, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        publish(tmp_path / "artifact", example_artifact(), tensors)
    assert not list(tmp_path.iterdir())


@given(
    array=hnp.arrays(
        dtype=st.sampled_from([np.float64, np.float32, np.float16, np.int64, np.uint8, np.bool_]),
        shape=hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    ),
    reverse=st.booleans(),
)
def test_any_layout_round_trips(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, reverse: bool
) -> None:
    strided = array.T[::-1] if reverse and array.ndim else array.T
    directory = tmp_path_factory.mktemp("layout") / "artifact"
    publish(directory, example_artifact(), {"tensor": strided})
    np.testing.assert_array_equal(load(directory).tensors["tensor"], strided)


FLOATS = [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2]


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: dtype.__name__)
def test_small_floats_are_stored_as_such(tmp_path: Path, dtype: Any) -> None:
    tensor = np.linspace(-2, 2, 12).reshape(3, 4).astype(dtype)
    publish(tmp_path / "artifact", example_artifact(), {"w": tensor})
    found = load(tmp_path / "artifact").tensors["w"]
    assert found.dtype == tensor.dtype
    assert found.tobytes() == tensor.tobytes()
    size_bytes = (tmp_path / "artifact" / "model.safetensors").stat().st_size
    assert size_bytes < 100 + tensor.nbytes


def test_existing_content_is_never_replaced(published: Path) -> None:
    before = load(published).digest
    with pytest.raises(ArtifactError, match="exists and is not empty; artifacts never change"):
        publish(published, example_artifact(), example_tensors())
    assert load(published).digest == before


def test_empty_directory_and_missing_parents_are_used(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for directory in (tmp_path / "empty", tmp_path / "a" / "b" / "c"):
        publish(directory, example_artifact(), example_tensors())
        load(directory)


@pytest.mark.parametrize("target", ["empty", "absent"])
def test_link_is_refused_and_kept(tmp_path: Path, target: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(PlaceTakenError, match="link is a symbolic link, which no directory can"):
        publish(tmp_path / "link", example_artifact(), example_tensors())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "link"]


def test_place_that_cannot_be_replaced_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(path: Path, target: Path) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(Path, "rename", busy)  # as a bind mount is
    with pytest.raises(PlaceTakenError, match="artifact: Device or resource busy; choose a new"):
        publish(tmp_path / "new" / "artifact", example_artifact(), example_tensors())
    assert list(tmp_path.iterdir()) == []


def test_parents_that_cannot_be_made_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="File name too long"):
        publish(tmp_path / "a1" / ("x" * 300) / "out", example_artifact(), example_tensors())
    assert list(tmp_path.iterdir()) == []


def test_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for directory in (tmp_path / "file", tmp_path / "file" / "artifact"):
        with pytest.raises(ArtifactError, match=r"choose a (new )?directory"):
            publish(directory, example_artifact(), example_tensors())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_descriptor_too_large_to_load_is_refused(tmp_path: Path) -> None:
    artifact = example_artifact()
    artifact.model.config_json = '{"note": "' + "x" * 2**24 + '"}'
    with pytest.raises(ArtifactError, match="the descriptor takes .* at most 16777216 are read"):
        publish(tmp_path / "artifact", artifact, example_tensors())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "no tensors"),
        ({"w": np.zeros(2, dtype=complex)}, "tensor 'w' is complex128"),
        ({"w": np.array(["text"])}, "tensor 'w' is <U4"),
    ],
)
def test_weights_that_cannot_be_stored_are_refused(
    tmp_path: Path, tensors: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(ArtifactError, match=message):
        publish(tmp_path / "artifact", example_artifact(), tensors)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("survived", range(NUM_FSYNC_BEFORE_RENAME))
def test_failure_while_writing_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survived: int
) -> None:
    def full_disk() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", after(survived, full_disk))
    with pytest.raises(ArtifactError, match="No space left on device"):
        publish(tmp_path / "artifact", example_artifact(), example_tensors())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["x" * 300, "é" * 128, "\0"], ids=["long", "long UTF-8", "NUL"])
@pytest.mark.parametrize("parents", ["", "a/b"])
def test_name_that_no_directory_can_have_is_refused(
    tmp_path: Path, name: str, parents: str
) -> None:
    message = "embedded null" if "\0" in name else "File name too long"
    with pytest.raises(ArtifactError, match=rf"cannot publish to .*{message}.*; choose a"):
        publish(tmp_path / parents / name, example_artifact(), example_tensors())
    assert not list(tmp_path.iterdir())
    with pytest.raises(ArtifactError):
        load(tmp_path / parents / name)


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127], ids=["ASCII", "UTF-8"])
def test_name_as_long_as_a_directory_can_have_is_taken(tmp_path: Path, name: str) -> None:
    publish(tmp_path / name, example_artifact(), example_tensors())
    load(tmp_path / name)


@pytest.mark.parametrize("survived", range(NUM_FSYNC_BEFORE_RENAME))
@pytest.mark.parametrize("interrupt", [SystemExit(143), KeyboardInterrupt()], ids=repr)
def test_interrupt_while_writing_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survived: int, interrupt: BaseException
) -> None:
    def stop() -> None:
        raise interrupt

    monkeypatch.setattr(os, "fsync", after(survived, stop))
    with pytest.raises(type(interrupt)):
        publish(tmp_path / "new" / "artifact", example_artifact(), example_tensors())
    assert not list(tmp_path.iterdir())


def test_disk_that_is_full_leaves_nothing(tmp_path: Path) -> None:
    tensors = {"w": np.zeros(100_000)}
    pid = os.fork()
    if pid == 0:  # what a process may write is limited for good
        status = 1
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
            publish(tmp_path / "new" / "artifact", example_artifact(), tensors)
        except ArtifactError as error:
            status = 0 if "File too large" in str(error) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("survived", range(NUM_FSYNC_BEFORE_RENAME + 1))
def test_kill_while_writing_leaves_all_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survived: int
) -> None:
    directory = tmp_path / "artifact"
    pid = os.fork()
    if pid == 0:
        monkeypatch.setattr(os, "fsync", after(survived, kill_myself))
        publish(directory, example_artifact(), example_tensors())
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL

    if survived < NUM_FSYNC_BEFORE_RENAME:
        assert not directory.exists()
        publish(directory, example_artifact(), example_tensors())
    load(directory)


def kill_myself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def after(survived: int, fail: Callable[[], None]) -> Callable[[int], None]:
    """An fsync that works `survived` times and then fails."""
    fsync = os.fsync
    remaining = iter(range(survived))

    def limited_fsync(descriptor: int) -> None:
        if next(remaining, None) is None:
            fail()
        fsync(descriptor)

    return limited_fsync


def test_directory_mode_follows_the_umask(tmp_path: Path) -> None:
    previous = os.umask(0o027)
    try:
        publish(tmp_path / "artifact", example_artifact(), example_tensors())
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "artifact").stat().st_mode) == 0o750


def test_artifact_can_be_moved(published: Path, tmp_path: Path) -> None:
    digest = load(published).digest
    shutil.move(published, tmp_path / "moved")
    assert load(tmp_path / "moved").digest == digest
