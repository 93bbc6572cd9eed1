"""A store of artifacts: versions that never change, aliases, stages and evaluations.

    store = open_store("/srv/models")             # or s3://bucket/prefix, gs://, az://
    store.publish(Path("digits-1.0.0"))
    directory = store.fetch(store.resolve("digits@champion").digest)

Any number of processes read and write one store at once. Readers take no lock; a version is there
with all that belongs to it, or it is not there.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

from hpc.artifact.v1 import artifact_pb2
from hpc.registry.v1 import registry_pb2

from registry.artifact import VerifiedDescriptor
from registry.errors import NotFoundError
from registry.store import (
    aliases,
    catalogue,
    descriptors,
    evaluations,
    fetching,
    garbage,
    majors,
    publishing,
    resolving,
    stages,
)
from registry.store.aliases import Move
from registry.store.garbage import GRACE, Garbage
from registry.store.marker import is_store, make_store, require_store
from registry.store.objects import Objects
from registry.store.opening import cache_directory, open_objects
from registry.store.people import this_user
from registry.store.versions import Bump


def open_store(url: str | Path, cache: Path | None = None) -> "Store":
    """Opens a store, which need not exist: the first `publish` makes it.

    Args:
        url: A path, or a URL with file, s3, gs, az or abfs before '://'.
        cache: Where artifacts of a remote store are kept once they were fetched; by default below
            `$XDG_CACHE_HOME`.

    Raises:
        StoreError: There can be no store there, or it cannot be reached.
    """
    return Store(open_objects(url), cache_directory() if cache is None else cache)


class Store:
    """A store; see `open_store`. Every method raises StoreError for one that cannot be reached.

    Attributes:
        url: where it is, as its user would write it.
    """

    def __init__(self, objects: Objects, cache: Path) -> None:
        self.url = objects.url
        self._all = objects
        self._cache = cache
        self._is_checked = False

    def publish(
        self,
        directory: Path,
        *,
        version: str | None = None,
        bump: Bump | None = None,
        by: str | None = None,
        sign: Callable[[Path], None] | None = None,
    ) -> registry_pb2.Version:
        """Publishes an artifact, all of it or nothing.

        Args:
            directory: The artifact's, of which every byte is verified; it is not changed, and may
                be removed afterwards.
            version: Which version it is to be; by default the one in its descriptor.
            bump: Instead of a version, which part of the model's highest one to raise; 1.0.0 if it
                has none. If another publisher takes that version meanwhile, the next one.
            by: Who publishes; by default user and host.
            sign: What signs a directory, called when all of it but the signature is there. What
                signatures it has are kept if its descriptor stays as it is.

        Returns:
            The version. That of before if this very artifact is published already as `version`.

        Raises:
            ArtifactError: The artifact is not whole, or the store cannot be written.
            VersionTakenError: Another artifact is published as that version.
            SignatureChangedError: Versions of that major version have other inputs or outputs.
        """
        make_store(self._all)
        wanted = publishing.Wanted(version, bump, by or this_user(), sign)
        return publishing.publish(self._all, directory, wanted)

    def rehearse(self, artifact: artifact_pb2.Artifact) -> registry_pb2.Version | None:
        """Checks what can be checked of publishing an artifact before there is one.

        Args:
            artifact: Its name, version, inputs and outputs.

        Returns:
            What is published as that version already; None: nothing is.

        Raises:
            SignatureChangedError: Versions of that major version have other inputs or outputs.
            StoreError: There can be no store here.
        """
        if not is_store(self._all):
            return None  # the first `publish` makes it
        majors.require_unchanged(self._all, artifact)
        return catalogue.version(self._all, artifact.name, artifact.version)

    def names(self) -> list[str]:
        """Returns the sorted names of the models that have a version."""
        return catalogue.names(self._objects())

    def versions(self, name: str) -> list[registry_pb2.Version]:
        """Returns the versions of a model, ascending by the precedence of semantic versions.

        Raises:
            NotFoundError: There is no such model.
        """
        found = catalogue.versions(self._objects(), name)
        if not found:
            catalogue.require_name(self._objects(), name)
        return found

    def resolve(self, reference: str) -> registry_pb2.Version:
        """Returns the version that a reference means now; see `registry.store.references`.

        Raises:
            BadReferenceError: It is no reference.
            NotFoundError: It means none; the message says which there are.
        """
        return resolving.resolve(self._objects(), reference)

    def fetch(self, digest: str) -> Path:
        """Returns a directory with an artifact: in the store, or verified copies in the cache.

        Raises:
            NotFoundError: No version has that artifact.
            ArtifactError: What was downloaded is not what was published.
        """
        self._require_artifact(digest)
        return fetching.fetch_artifact(self._objects(), digest, self._cache)

    def descriptor(self, digest: str) -> VerifiedDescriptor:
        """Reads what an artifact says of itself, and nothing else.

        Returns:
            The descriptor; its directory is where `fetch` puts the artifact, which need not have
            been fetched.

        Raises:
            NotFoundError: No version has that artifact.
            StoreError: The descriptor is not what was published.
        """
        artifact = descriptors.read_artifact(self._objects(), digest)
        if artifact is None or resolving.version_of(self._objects(), artifact, digest) is None:
            raise self._no_artifact(digest)
        directory = fetching.directory_of(self._objects(), digest, self._cache)
        return VerifiedDescriptor(artifact, directory, digest)

    def aliases(self, name: str) -> dict[str, registry_pb2.AliasMove]:
        """Returns the move of each alias of a model that says what it means now.

        Raises:
            NotFoundError: There is no such model.
        """
        catalogue.require_name(self._objects(), name)
        return aliases.current(self._objects(), name)

    def moves(self, name: str) -> list[registry_pb2.AliasMove]:
        """Returns all moves of a model's aliases, and of the mark `archived`, by time.

        Raises:
            NotFoundError: There is no such model.
        """
        catalogue.require_name(self._objects(), name)
        return aliases.moves(self._objects(), name)

    def move_alias(
        self,
        name: str,
        alias: str,
        to_version: str | None,
        *,
        by: str | None = None,
        reason: str = "",
        forced: bool = False,
        gates: Sequence[registry_pb2.GateResult] = (),
        after: int | None = None,
    ) -> registry_pb2.AliasMove:
        """Moves an alias, or removes it, in one step that everyone sees in the same order.

        Args:
            name: Of the model.
            alias: Which.
            to_version: What it is to mean, in full; None: nothing any more.
            by: Who moves it; by default user and host.
            reason: Why.
            forced: Whether gates were overridden.
            gates: What they said.
            after: The sequence number of the move that the caller has seen last, 0 for none; by
                default it is moved whatever it means.

        Raises:
            NotFoundError: There is no such model, version, or alias to remove.
            StageError: The rules of stages do not allow it; see `registry.store.stages`.
            ConflictError: It was moved after `after`.
        """
        wanted = Move(to_version, by or this_user(), reason, forced, gates, after)
        catalogue.require_name(self._objects(), name)
        return stages.move(self._objects(), name, alias, wanted)

    def promote(
        self,
        name: str,
        version: str,
        *,
        by: str | None = None,
        reason: str = "",
        forced: bool = False,
        gates: Sequence[registry_pb2.GateResult] = (),
        after: int | None = None,
    ) -> registry_pb2.AliasMove:
        """Makes a version the champion and the champion `previous`; see `move_alias`.

        The caller has judged the gates, and compared with the champion of move `after`.

        Raises:
            StageError: It is archived, or is the champion already.
        """
        wanted = Move(version, by or this_user(), reason, forced, gates, after)
        catalogue.require_name(self._objects(), name)
        return stages.promote(self._objects(), name, wanted)

    def archived(self, name: str) -> set[str]:
        """Returns the versions of a model that are archived.

        Raises:
            NotFoundError: There is no such model.
        """
        catalogue.require_name(self._objects(), name)
        return aliases.archived(self._objects(), name)

    def archive(
        self, name: str, version: str, *, by: str | None = None, reason: str = ""
    ) -> registry_pb2.AliasMove:
        """Has references that name no version in full pass over this one.

        Raises:
            NotFoundError: There is no such version.
            StageError: It is candidate or champion.
        """
        wanted = Move(version, by or this_user(), reason)
        return stages.archive(self._objects(), name, version, wanted)

    def unarchive(
        self, name: str, version: str, *, by: str | None = None, reason: str = ""
    ) -> registry_pb2.AliasMove:
        """Takes back what `archive` did.

        Raises:
            NotFoundError: There is no such version.
            StageError: It is not archived.
        """
        wanted = Move(None, by or this_user(), reason)
        return stages.unarchive(self._objects(), name, version, wanted)

    def add_signatures(self, digest: str, directory: Path) -> list[str]:
        """Adds `directory/signatures/*.sig` to an artifact, but for those whose names it has.

        Returns:
            The names of those added.

        Raises:
            NotFoundError: No version has that artifact.
        """
        self._require_artifact(digest)
        return publishing.add_signatures(self._objects(), digest, directory)

    def add_evaluation(self, directory: Path) -> str:
        """Stores an evaluation beside its artifact, with its signatures; returns its digest.

        Raises:
            StoreError: It is not whole.
            NotFoundError: No version has its artifact.
        """
        return evaluations.add(self._objects(), directory)

    def evaluations(self, digest: str) -> list[str]:
        """Returns the sorted digests of the evaluations of an artifact.

        Raises:
            NotFoundError: No version has that artifact.
        """
        self._require_artifact(digest)
        return evaluations.digests(self._objects(), digest)

    def fetch_evaluation(self, digest: str, evaluation: str) -> Path:
        """Returns a directory with an evaluation of an artifact; see `fetch`.

        Raises:
            NotFoundError: There is no such evaluation.
            StoreError: What was downloaded is not what was stored.
        """
        if evaluation not in self.evaluations(digest):
            raise NotFoundError(f"{self.url} has no evaluation {evaluation[:64]} of {digest[:12]}")
        return fetching.fetch_evaluation(self._objects(), digest, evaluation, self._cache)

    def garbage(self, older_than: timedelta = GRACE) -> list[Garbage]:
        """Returns what nobody needs and nobody has touched for so long, for `remove`."""
        return garbage.find(self._objects(), older_than)

    def remove(self, piece: Garbage) -> bool:
        """Removes garbage unless somebody has come to need it meanwhile; whether it is gone."""
        return garbage.remove(self._objects(), piece)

    def _objects(self) -> Objects:
        """Returns what a store that is there keeps, checked once."""
        if not self._is_checked:
            require_store(self._all)
            self._is_checked = True
        return self._all

    def _require_artifact(self, digest: str) -> None:
        if resolving.by_digest(self._objects(), digest) is None:
            raise self._no_artifact(digest)

    def _no_artifact(self, digest: str) -> NotFoundError:
        return NotFoundError(f"{self.url} has no version whose artifact is sha256:{digest[:64]}")
