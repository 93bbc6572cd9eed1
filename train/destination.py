"""Where a run's artifact goes besides the run's directory, and who signs it."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hpc.artifact.v1 import artifact_pb2
from hpc.registry.v1 import registry_pb2

from registry.artifact import read_descriptor
from registry.errors import ArtifactError
from registry.store.store import Store
from train.checkpoint.run_directory import ARTIFACT
from train.config.schema import ConfigError, TrainConfig
from train.publication import Publication, to_proto

if TYPE_CHECKING:
    from registry.trust.signing import Signer


class Destination(NamedTuple):
    """Where to, and by whom.

    Attributes:
        store: The registry to publish to; None: the run's directory is enough.
        signer: Whose signature the artifact gets; None: nobody's.
    """

    store: Store | None = None
    signer: "Signer | None" = None


def destination(store: Store | None, key: Path | None) -> Destination:
    """Reads a key, before hours are spent.

    Args:
        store: The registry.
        key: File of a private key.

    Raises:
        TrustError: It cannot be used.
    """
    if key is None:
        return Destination(store)
    from registry.trust.signing import Signer  # takes a second to import

    return Destination(store, Signer.read(key))


def check_destination(
    place: Destination, config: TrainConfig, output_dir: Path, *, goes_on: bool
) -> None:
    """Checks that what the run will publish can be, as far as is known before it is trained.

    Args:
        place: Where to.
        config: Of the run.
        output_dir: Of the run; what has ended there may have been published already.
        goes_on: Whether the run goes on in it, if it has not ended: it does not begin anew.

    Raises:
        ConfigError: Its version is another artifact's.
        SignatureChangedError: Its major version has other inputs or outputs.
    """
    if place.store is None:
        return
    described = artifact_pb2.Artifact(
        name=config.artifact.name,
        version=config.artifact.version,
        inputs=[to_proto(config.model.signature.input)],
        outputs=[to_proto(config.model.signature.output)],
    )
    if (taken := place.store.rehearse(described)) is None:
        return
    ended = output_dir / ARTIFACT
    if not goes_on or not ended.exists() or read_descriptor(ended).digest != taken.digest:
        raise ConfigError(
            f"artifact.version: {taken.name}:{taken.version} is in {place.store.url} already, and "
            "versions never change; choose another one, as with --set artifact.version=..."
        )


def deliver(place: Destination, published: Publication) -> registry_pb2.Version | None:
    """Signs what a run has published and publishes it to the registry.

    Returns:
        The version in the registry, if there is one.

    Raises:
        ArtifactError: It could not be done; the artifact is in the run's directory.
    """
    try:
        if place.signer is not None:
            from registry.trust.signing import sign_directory

            sign_directory(published.directory, place.signer)
        return None if place.store is None else place.store.publish(published.directory)
    except ArtifactError as error:
        raise ArtifactError(
            f"trained, and kept in {published.directory}, but it could not be signed and "
            f"published: {error}; //registry:hpc can do both, see docs/registry.md"
        ) from error
