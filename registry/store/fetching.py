"""Brings artifacts and evaluations of remote stores to this machine, verified, once."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from base.files import new_directory, write_file
from registry.artifact import read_descriptor, verify
from registry.descriptor import DESCRIPTOR, DIGEST, SIGNATURES
from registry.errors import ArtifactError, StoreError
from registry.evaluations import EXAMPLES, MESSAGE, read_evaluation
from registry.store import keys
from registry.store.descriptors import read_artifact
from registry.store.objects import Objects


class _Wanted(NamedTuple):
    """A directory of a store that is to be had on this machine.

    Attributes:
        key: where it lies in the store.
        digest: which identifies it.
        names: its files, but for signatures.
        verified: verifies each byte of a directory and returns its digest.
        cached: the same for what was verified when it came, and whose files need only be there.
    """

    key: str
    digest: str
    names: Sequence[str]
    verified: Callable[[Path], str]
    cached: Callable[[Path], str]


def directory_of(objects: Objects, digest: str, cache: Path) -> Path:
    """Returns where an artifact lies, or is going to lie once it was fetched."""
    return objects.path(keys.artifact(digest)) or cache / digest


def fetch_artifact(objects: Objects, digest: str, cache: Path) -> Path:
    """Returns a directory with an artifact that a version names; see `Store.fetch`."""
    local = objects.path(keys.artifact(digest))
    if local is not None:
        return local
    artifact = read_artifact(objects, digest)
    if artifact is None:
        raise StoreError(f"{objects.url} does not have all of artifact sha256:{digest}; restore it")
    names = [DESCRIPTOR, DIGEST, *(file.path for file in artifact.files)]
    wanted = _Wanted(
        keys.artifact(digest),
        digest,
        names,
        verified=lambda directory: verify(directory).digest,
        cached=lambda directory: read_descriptor(directory).digest,
    )
    return _fetch(objects, wanted, cache / digest)


def fetch_evaluation(objects: Objects, digest: str, evaluation: str, cache: Path) -> Path:
    """Returns a directory with an evaluation of an artifact; see `Store.fetch_evaluation`."""
    key = keys.evaluation(digest, evaluation)
    local = objects.path(key)
    if local is not None:
        return local

    def read_digest(directory: Path) -> str:
        return read_evaluation(directory).digest

    names = [MESSAGE, EXAMPLES, keys.LAST_OF_EVALUATION]
    wanted = _Wanted(key, evaluation, names, verified=read_digest, cached=read_digest)
    return _fetch(objects, wanted, cache / "evaluations" / evaluation)


def _fetch(objects: Objects, wanted: _Wanted, target: Path) -> Path:
    if target.exists() and not _is_sound(wanted, target):
        shutil.rmtree(target)
    if not target.exists():
        try:
            with new_directory(target) as assembled:
                _download(objects, wanted, assembled)
        except FileExistsError:  # another process has fetched it meanwhile
            pass
        except OSError as error:
            raise StoreError(
                f"cannot keep {wanted.key} in {target.parent}: {error.strerror}; name another "
                "cache by XDG_CACHE_HOME"
            ) from error
    _add_new_signatures(objects, wanted.key, target)
    return target


def _is_sound(wanted: _Wanted, target: Path) -> bool:
    try:
        return wanted.cached(target) == wanted.digest
    except ArtifactError:
        return False


def _download(objects: Objects, wanted: _Wanted, assembled: Path) -> None:
    for name in [*wanted.names, *_signatures(objects, wanted.key)]:
        (assembled / name).parent.mkdir(parents=True, exist_ok=True)
        objects.download(f"{wanted.key}/{name}", assembled / name)
    if wanted.verified(assembled) != wanted.digest:
        raise StoreError(
            f"{objects.url}/{wanted.key} has another digest than its place; restore it"
        )


def _signatures(objects: Objects, key: str) -> list[str]:
    names = objects.names(f"{key}/{SIGNATURES}")
    return [f"{SIGNATURES}/{name}" for name in names if name.endswith(".sig")]


def _add_new_signatures(objects: Objects, key: str, target: Path) -> None:
    """Downloads the signatures that came after the artifact was fetched."""
    for name in _signatures(objects, key):
        content = None if (target / name).exists() else objects.read(f"{key}/{name}")
        if content is not None:
            (target / name).parent.mkdir(exist_ok=True)
            write_file(target / name, content)
