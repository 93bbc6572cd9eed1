"""What a user works with: their registry, whom they trust, and the artifacts that they name."""

import os
import sys
from pathlib import Path
from typing import NamedTuple

from hpc.registry.v1 import registry_pb2

from base.program import PathError, directory_from_user, from_user
from base.text import printable
from registry.artifact import NO_DIRECTORY, VerifiedDescriptor, read_descriptor
from registry.errors import ArtifactError, BadReferenceError, NotFoundError
from registry.evaluations import StoredEvaluation
from registry.store.store import Store, open_store
from registry.trust.trust import Trust, find_trust
from registry.trust.verification import Verification, check_artifact, check_evaluation

_NO_REGISTRY = "--registry: expected a directory or a URL, got ''"


class Found(NamedTuple):
    """An artifact that a reference names, of whose origin the trust root has been asked.

    Attributes:
        descriptor: What it says of itself, and where it lies.
        version: Under which it was published; None: it lies in a directory of its user's.
        verification: Who signed it.
    """

    descriptor: VerifiedDescriptor
    version: registry_pb2.Version | None
    verification: Verification

    @property
    def directory(self) -> Path:
        """Where it lies."""
        return self.descriptor.directory

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.descriptor.artifact.name} {self.descriptor.artifact.version}"


class Access:
    """The registry of a program's user, opened when it is first needed, and whom they trust."""

    def __init__(self, registry: str | None = None, trust_file: str | None = None):
        """Reads whom the user trusts.

        Args:
            registry: As the user gave it; None: the default.
            trust_file: The same.

        Raises:
            TrustError: The file cannot be read or says what none may say.
        """
        self._registry = registry
        self._store: Store | None = None
        self.trust: Trust = find_trust(None if trust_file is None else from_user(trust_file))

    @property
    def store(self) -> Store:
        """The registry."""
        if self._store is None:
            self._store = open_registry(self._registry)
        return self._store

    def find(self, reference: str) -> Found:
        """Returns the artifact that a reference, or the path of its directory, names.

        Of a registry elsewhere it is downloaded. Warnings of the policy `warn` go to stderr.

        Raises:
            ArtifactError: There is none, or it must not be trusted.
            PathError: The path leads nowhere.
        """
        version = None
        if is_path(reference):
            directory = directory_from_user(reference, NO_DIRECTORY)
        else:
            version = self._resolve(reference)
            directory = self.store.fetch(version.digest)
        return self.at(directory)._replace(version=version)

    def at(self, directory: Path) -> Found:
        """Returns the artifact in a directory; see `find`."""
        descriptor = read_descriptor(directory)
        return Found(descriptor, None, self.checked(descriptor))

    def check_evaluation(self, stored: StoredEvaluation) -> Verification:
        """Asks whether an evaluation is to be trusted.

        Raises:
            ArtifactError: It must not be.
        """
        return check_evaluation(stored, self.trust)

    def checked(self, descriptor: VerifiedDescriptor) -> Verification:
        """Asks whether an artifact is to be trusted. Warnings of the policy `warn` go to stderr.

        Raises:
            ArtifactError: It must not be.
        """
        verification = check_artifact(descriptor, self.trust)
        for warning in verification.warnings:
            print(f"warning: {printable(warning)}", file=sys.stderr)
        return verification

    def _resolve(self, reference: str) -> registry_pb2.Version:
        try:
            return self.store.resolve(reference)
        except (NotFoundError, BadReferenceError) as error:
            if os.path.isdir(from_user(reference)):  # False of what no directory can be called
                raise ArtifactError(f"{error}; the directory here is ./{reference}") from error
            raise


def open_registry(registry: str | None) -> Store:
    """Opens the registry of a program's user.

    Args:
        registry: As the user gave it; None: what $HPC_REGISTRY names, or else a directory among
            the data of this user's programs.

    Raises:
        ArtifactError: It cannot be opened.
        PathError: The path leads nowhere.
    """
    registry = registry if registry is not None else os.environ.get("HPC_REGISTRY") or None
    if registry is None:
        return open_store(_data_home() / "hpc" / "registry")
    if not registry:
        raise PathError(_NO_REGISTRY)
    return open_store(registry if "://" in registry else directory_from_user(registry, ""))


def is_path(reference: str) -> bool:
    """Whether the user names a directory, and no version of a model.

    A name without a slash is a model's; `./digits` is a directory.
    """
    return not reference or "/" in reference or reference in (".", "..")


def _data_home() -> Path:
    """Returns where programs keep what belongs to their user, by the XDG specification."""
    given = Path(os.environ.get("XDG_DATA_HOME", ""))
    return given if given.is_absolute() else Path.home() / ".local" / "share"
