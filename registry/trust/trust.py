"""Whom a user trusts: a YAML file with a policy, keys, certificates and what was revoked.

policy: require           # or warn, or off; require unless given
keys:
  - file: release.pub     # relative to this file
    not_after: 2027-06-30 # optional, as is not_before: a day, or a time with its zone
    comment: the build machine
certificates:
  - file: authority.pem   # of an authority, whose certificates sign
    subjects: [CN=release,O=Example]  # optional: these alone
revoked:
  - key: 5f0c...          # SHA-256: of a key (sha256sum key.pub), a certificate or an artifact
    reason: lost with a laptop
"""

import os
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from base.config import FROM_LIST, Section, explain
from base.yaml_loader import YamlError, load_yaml
from registry.errors import ArtifactError, TrustError
from registry.payload import read_small
from registry.trust.keys import key_fingerprint, read_certificates, read_public_key, subject_of

Policy = Literal["require", "warn", "off"]
Revocable = Literal["key", "certificate", "artifact"]

_MAX_FILE_BYTES = 2**18


def _time(value: object) -> object:
    """Returns the time that a text names: the beginning of a day in UTC, or a time with a zone."""
    if not isinstance(value, str):
        raise ValueError(f"expected a day such as 2027-06-30, got {value!r}")
    try:
        return datetime.combine(date.fromisoformat(value), time(), UTC)
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise ValueError(
            f"expected a day such as 2027-06-30 or a time such as 2027-06-30T12:00:00Z, "
            f"got {value!r}"
        )
    return found


Time = Annotated[datetime, BeforeValidator(_time)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class KeyEntry(Section):
    """A public key that is trusted, for some time or for all."""

    file: Annotated[str, Field(min_length=1)]
    not_before: Time | None = None
    not_after: Time | None = None
    comment: str = ""

    @model_validator(mode="after")
    def _check_order(self) -> "KeyEntry":
        if self.not_before and self.not_after and self.not_before >= self.not_after:
            raise ValueError("not_after is not later than not_before")
        return self


class CertificateEntry(Section):
    """An authority whose certificates are trusted to sign, or those of some subjects alone."""

    file: Annotated[str, Field(min_length=1)]
    subjects: Annotated[tuple[str, ...], FROM_LIST, Field(min_length=1)] | None = None
    comment: str = ""


class Revocation(Section):
    """A key, a certificate or an artifact that is not trusted, whoever says so."""

    key: Digest | None = None
    certificate: Digest | None = None
    artifact: Digest | None = None
    reason: str = ""

    @model_validator(mode="after")
    def _check_one(self) -> "Revocation":
        if sum(value is not None for value in (self.key, self.certificate, self.artifact)) != 1:
            raise ValueError("expected one of key, certificate and artifact")
        return self


class TrustFile(Section):
    """What a trust root's file says."""

    policy: Policy = "require"
    keys: Annotated[tuple[KeyEntry, ...], FROM_LIST] = ()
    certificates: Annotated[tuple[CertificateEntry, ...], FROM_LIST] = ()
    revoked: Annotated[tuple[Revocation, ...], FROM_LIST] = ()

    @model_validator(mode="after")
    def _check_anyone(self) -> "TrustFile":
        if self.policy == "require" and not self.keys and not self.certificates:
            raise ValueError(
                "policy require with neither keys nor certificates lets nothing pass; name whose "
                "signatures are trusted"
            )
        return self


class TrustedKey(NamedTuple):
    """A key whose signatures count from `not_before` on until `not_after`."""

    name: str
    fingerprint: str
    key: ec.EllipticCurvePublicKey
    not_before: datetime | None = None
    not_after: datetime | None = None
    comment: str = ""


class Authority(NamedTuple):
    """A certificate that says whose certificates count; `subjects`: these alone, if any."""

    name: str
    certificate: x509.Certificate
    subjects: frozenset[str] = frozenset()


class Trust(NamedTuple):
    """Whom a user trusts.

    Attributes:
        policy: "require": what nobody trusted has signed is refused; "warn": it is told; "off":
            signatures are not looked at.
        keys: By fingerprint.
        authorities: Of certificates.
        revoked: Why a key, a certificate or an artifact is not trusted, by kind and SHA-256.
        file: Where it was read from; None: no trust root is configured.
    """

    policy: Policy = "off"
    keys: Mapping[str, TrustedKey] = {}
    authorities: tuple[Authority, ...] = ()
    revoked: Mapping[tuple[Revocable, str], str] = {}
    file: Path | None = None


def find_trust(file: Path | None = None) -> Trust:
    """Returns whom the user of this program trusts.

    Args:
        file: What the command line names; None: what $HPC_TRUST names, or
            `$XDG_CONFIG_HOME/hpc/trust.yaml` (`~/.config/hpc/trust.yaml`) if it is there. Without
            any of these nobody has said whom to trust, and the policy is "off".

    Raises:
        TrustError: as `load_trust`.
    """
    if file is None and (named := os.environ.get("HPC_TRUST")):
        file = Path(os.environ.get("BUILD_WORKING_DIRECTORY", ""), named)
    if file is None:
        given = Path(os.environ.get("XDG_CONFIG_HOME", ""))
        home = given if given.is_absolute() else Path.home() / ".config"
        usual = home / "hpc" / "trust.yaml"
        # What is there and cannot be read is an error: nobody has turned the policy off.
        if not os.path.lexists(usual):
            return Trust()
        file = usual
    return load_trust(file)


def load_trust(file: Path) -> Trust:
    """Reads a trust root.

    Raises:
        TrustError: The file cannot be read, says what it cannot say, or names a key or a
            certificate that cannot be used.
    """
    said = _parse(file)
    folder = file.parent
    keys = [_trusted_key(folder, entry) for entry in said.keys]
    by_fingerprint = {key.fingerprint: key for key in keys}
    if len(by_fingerprint) != len(keys):
        raise TrustError(f"{file}: keys: one key is listed twice; list it once")
    authorities = [found for entry in said.certificates for found in _authorities(folder, entry)]
    revoked: dict[tuple[Revocable, str], str] = {}
    for entry in said.revoked:
        for kind in ("key", "certificate", "artifact"):
            if digest := getattr(entry, kind):
                revoked[kind, digest] = entry.reason
    return Trust(said.policy, by_fingerprint, tuple(authorities), revoked, file)


def _parse(file: Path) -> TrustFile:
    try:
        content = load_yaml(read_small(file.resolve(), _MAX_FILE_BYTES).decode())
    except UnicodeDecodeError as error:
        raise TrustError(f"trust root {file}: it is not UTF-8 text: {error.reason}") from error
    except (YamlError, ArtifactError, OSError, RuntimeError, ValueError) as error:
        raise TrustError(f"trust root {file}: {_one_line(error)}") from error
    try:
        return TrustFile.model_validate({} if content is None else content)
    except ValidationError as error:
        raise TrustError(f"trust root {file}: {'; '.join(explain(error, TrustFile))}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _trusted_key(folder: Path, entry: KeyEntry) -> TrustedKey:
    key = read_public_key(folder / entry.file)
    return TrustedKey(
        Path(entry.file).name,
        key_fingerprint(key),
        key,
        entry.not_before,
        entry.not_after,
        entry.comment,
    )


def _authorities(folder: Path, entry: CertificateEntry) -> list[Authority]:
    found = read_certificates(folder / entry.file)
    for certificate in found:
        if not _is_authority(certificate):
            raise TrustError(
                f"{folder / entry.file}: {subject_of(certificate)} is no authority's "
                "certificate; name that which issued it, or its key under keys"
            )
    subjects = frozenset(entry.subjects or ())
    return [Authority(Path(entry.file).name, certificate, subjects) for certificate in found]


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return False
