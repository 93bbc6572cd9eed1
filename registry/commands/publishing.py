"""`publish`, `sign` and `verify`: how a version comes, and who vouches for it."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from base.program import directory_from_user, from_user
from base.text import printable
from registry.access import Access, Found, is_path, open_registry
from registry.artifact import NO_DIRECTORY, load, verify
from registry.commands.options import (
    AsJson,
    Certificate,
    Chain,
    Reason,
    Reference,
    RegistryUrl,
    SigningKey,
    TrustFile,
)
from registry.commands.output import as_facts, emit
from registry.descriptor import DESCRIPTOR
from registry.errors import ArtifactError
from registry.evaluations import MESSAGE, read_evaluation
from registry.programs.probe import check_probe
from registry.programs.program import program_names
from registry.store.stages import require_movable
from registry.store.store import Store
from registry.trust.signing import Signer, generate_key_pair, sign_directory

# Where a run's directory has its artifact.
RUN_ARTIFACT = "artifact"


class Bump(StrEnum):
    """Which number of the newest version the next one raises."""

    MAJOR = "major"
    MINOR = "minor"
    PATCH = "patch"


def publish(
    run_or_directory: Annotated[
        str, typer.Argument(metavar="RUN_OR_DIR", help="Of a run that has ended, or an artifact.")
    ],
    version: Annotated[
        str | None,
        typer.Option("--version", help="Publish as this version.", show_default="its own"),
    ] = None,
    bump: Annotated[
        Bump | None, typer.Option("--bump", help="Publish as the next version of this kind.")
    ] = None,
    alias: Annotated[
        str | None, typer.Option("--alias", help="Move this alias to it, such as candidate.")
    ] = None,
    key: SigningKey = None,
    certificate: Certificate = None,
    chain: Chain = None,
    reason: Reason = "",
    registry: RegistryUrl = None,
    as_json: AsJson = False,
) -> None:
    """Publish a trained model, whole or not at all, as a version that never changes."""
    # What is published stays, so all that can be refused is refused before.
    if alias is not None:
        require_movable(alias)
    if version == "":
        raise ArtifactError("--version: expected a semantic version such as 1.1.0, got ''")
    store = open_registry(registry)
    published = store.publish(
        artifact_of(run_or_directory),
        version=version,
        bump=None if bump is None else bump.value,
        sign=_signing(signer_of(key, certificate, chain)),
    )
    if alias is not None:
        store.move_alias(published.name, alias, published.version, reason=reason)
    told = (
        f"published {published.name}:{published.version} to {store.url}\nsha256 {published.digest}"
    )
    emit({**as_facts(published), "registry": store.url}, Text(told), as_json)


def sign(
    reference: Reference,
    key: SigningKey = None,
    certificate: Certificate = None,
    chain: Chain = None,
    new_key: Annotated[
        str | None,
        typer.Option(
            "--new-key", metavar="FILE", help="Make a key pair, FILE and FILE.pub, and sign by it."
        ),
    ] = None,
    evaluations: Annotated[
        bool, typer.Option("--evaluations", help="Sign what the registry has measured of it, too.")
    ] = False,
    registry: RegistryUrl = None,
    as_json: AsJson = False,
) -> None:
    """Sign an artifact, or the directory of an evaluation; signatures that it has stay."""
    if (key is None) == (new_key is None):
        raise ArtifactError(
            "nothing to sign with, or too much: give one of --key, which $HPC_SIGNING_KEY is too, "
            "and --new-key"
        )
    if evaluations and is_path(reference):
        raise ArtifactError("--evaluations: a directory has none; name the evaluation's directory")
    signer = signer_of(key, certificate, chain) if new_key is None else None
    # A key is made only for something that is there to be signed.
    if is_path(reference):
        directory = directory_from_user(reference, NO_DIRECTORY)
        if (directory / MESSAGE).exists():
            read_evaluation(directory)
        else:
            verify(directory)
        signature = sign_directory(directory, signer or _new_signer(new_key, certificate))
        facts: dict[str, Any] = {"signature": str(signature)}
    else:
        store = open_registry(registry)
        version = store.resolve(reference)
        directory = store.fetch(version.digest)
        signer = signer or _new_signer(new_key, certificate)
        signature = sign_directory(directory, signer)
        store.add_signatures(version.digest, directory)
        facts = {**as_facts(version), "signature": signature.name}
        if evaluations:
            facts["evaluations"] = _sign_evaluations(store, version.digest, signer)
    emit(facts, Text(f"signed: {facts['signature']}"), as_json)


def _sign_evaluations(store: Store, digest: str, signer: Signer) -> list[str]:
    """Signs every evaluation of an artifact; returns their digests."""
    names = store.evaluations(digest)
    for name in names:
        directory = store.fetch_evaluation(digest, name)
        sign_directory(directory, signer)
        store.add_evaluation(directory)
    return names


def verify_artifact(
    reference: Reference,
    programs: Annotated[
        bool,
        typer.Option("--programs", help="Run each portable program on the probe that it has, too."),
    ] = False,
    registry: RegistryUrl = None,
    trust: TrustFile = None,
    as_json: AsJson = False,
) -> None:
    """Verify every byte of an artifact, who signed it, and what its programs predict."""
    access = Access(registry, trust)
    found = access.find(reference)
    verify(found.directory)
    facts: dict[str, Any] = {
        "name": found.descriptor.artifact.name,
        "version": found.descriptor.artifact.version,
        "digest": found.descriptor.digest,
        "directory": str(found.directory),
        "policy": access.trust.policy,
        "signers": [str(signer) for signer in found.verification.signers],
        "warnings": list(found.verification.warnings),
    }
    if programs:
        facts["programs"] = _check_programs(found)
    emit(facts, _drawn(found, facts), as_json)


def _drawn(found: Found, facts: Mapping[str, Any]) -> Text:
    signers, programs = facts["signers"], facts.get("programs")
    lines = [f"signed by {signer}" for signer in signers]
    if not signers:
        lines = [f"no trusted signature; the policy is {facts['policy']}"]
    if programs is not None:
        lines += [f"{name} agrees with its probe to {off:.1e}" for name, off in programs.items()]
        lines += [] if programs else ["it has no portable programs"]
    return Text.assemble(
        (f"{found.title}  every file verified\n", "green"),
        f"sha256 {found.descriptor.digest}\n",
        "\n".join(map(printable, lines)),
    )


def _check_programs(found: Found) -> dict[str, float]:
    """Returns by how much each program's predictions differ from those of the probe."""
    loaded = load(found.directory)
    return {name: check_probe(loaded, name) for name in program_names(loaded.artifact)}


def artifact_of(run_or_directory: str) -> Path:
    """Returns the directory of an artifact: that of a run has it below."""
    given = directory_from_user(run_or_directory, NO_DIRECTORY)
    below = given / RUN_ARTIFACT
    try:
        return below if below.is_dir() and not (given / DESCRIPTOR).exists() else given
    except OSError as error:
        raise ArtifactError(f"no artifact at {given}: {error.strerror}") from error


def signer_of(key: str | None, certificate: str | None, chain: list[str] | None) -> Signer | None:
    """Reads who signs, by the options of a command; None: nobody is to.

    Raises:
        ArtifactError: What was given is not enough, or cannot be used.
    """
    if key is None and (certificate or chain):
        raise ArtifactError("--certificate needs its key: give --key too")
    if chain and certificate is None:
        raise ArtifactError("--chain is of those that issued a certificate: give --certificate too")
    if key is None:
        return None
    return Signer.read(
        from_user(key),
        certificate=None if certificate is None else from_user(certificate),
        chain=[from_user(file) for file in chain or ()],
    )


def _new_signer(key: str | None, certificate: str | None) -> Signer:
    """Makes a key pair, of which nobody can have a certificate yet."""
    assert key is not None  # a key that is there, or a new one: one of them was given
    if certificate is not None:
        raise ArtifactError("--certificate is of a key that is there: give --key, not --new-key")
    private = from_user(key)
    generate_key_pair(private)
    return Signer.read(private)


def _signing(signer: Signer | None) -> Callable[[Path], None] | None:
    """Returns what signs a directory before it is published; None: nobody does."""
    if signer is None:
        return None

    def sign(directory: Path) -> None:
        sign_directory(directory, signer)

    return sign
