"""Nothing is unpickled on the way from a directory to a model whose origin is known."""

import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from registry.artifact import load, publish, read_payload, verify
from registry.example import example_artifact, example_tensors
from registry.trust.signing import Signer, generate_key_pair, sign_directory
from registry.trust.trust import load_trust
from registry.trust.verification import check_artifact


class UnpickledError(Exception):
    """Something was unpickled."""


_watching = False


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event == "pickle.find_class":
        raise UnpickledError(event)


@pytest.fixture
def nothing_is_unpickled(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Has every way to unpickle raise: each function, and what looks up classes in C."""

    def refuse(*arguments: Any, **options: Any) -> None:
        raise UnpickledError("pickle was called")

    global _watching
    for name in ("load", "loads", "Unpickler", "_load", "_loads", "_Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    sys.addaudithook(_refuse)  # for good, so that it heeds what is watched
    _watching = True
    yield
    _watching = False


def read_everything(directory: Path) -> None:
    """All that a program reads before it has a model."""
    trust = load_trust(directory.with_name("trust.yaml"))
    assert check_artifact(verify(directory), trust).signers
    for mapped in (False, True):
        loaded = load(directory, mapped=mapped)
        np.testing.assert_array_equal(loaded.tensors["weight"], example_tensors()["weight"])
        assert read_payload(loaded, "README.md") == b"# digits"


def unpickle_an_array(directory: Path) -> None:
    """What other formats of weights do."""
    np.save(directory / "weights.npy", np.array([{}], object), allow_pickle=True)
    np.load(directory / "weights.npy", allow_pickle=True)


def unpickle_in_c(directory: Path) -> None:
    """What finds a class without the module's functions."""
    import _pickle

    _pickle.loads(pickle.dumps(ec.SECP256R1))


@pytest.mark.usefixtures("nothing_is_unpickled")
def test_nothing_is_unpickled(tmp_path: Path) -> None:
    directory = tmp_path / "artifact"
    publish(directory, example_artifact(), example_tensors(), {"README.md": b"# digits"})
    generate_key_pair(tmp_path / "key")
    sign_directory(directory, Signer.read(tmp_path / "key"))
    (tmp_path / "trust.yaml").write_text("keys: [{file: key.pub}]")
    read_everything(directory)


@pytest.mark.usefixtures("nothing_is_unpickled")
@pytest.mark.parametrize("unpickle", [unpickle_an_array, unpickle_in_c])
def test_this_would_be_found(tmp_path: Path, unpickle: Callable[[Path], None]) -> None:
    with pytest.raises(UnpickledError):
        unpickle(tmp_path)
