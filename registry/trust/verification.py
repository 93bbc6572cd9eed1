"""Whether somebody who is trusted signed an artifact, by the policy of the user.

A signature counts if it is by a key of the trust root, or by a certificate of one of its
authorities, which is valid now and not revoked, and states the SHA-256 digests of exactly the files
that the descriptor lists, of the descriptor and of its digest file. No file is hashed again: that
each has the digest of the descriptor is what `registry.artifact.load` and `verify` check.
"""

import hashlib
import os
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from base.text import printable
from registry import evaluations
from registry.artifact import LoadedArtifact, VerifiedDescriptor
from registry.contents import MAX_SIGNATURE_BYTES, MAX_SIGNATURES, SIGNATURE_PATH
from registry.descriptor import DESCRIPTOR, DIGEST, SIGNATURES
from registry.errors import ArtifactError, TrustError, UntrustedError
from registry.evaluations import StoredEvaluation
from registry.payload import read_small
from registry.trust.bundle import Bundle, BundleError, parse_bundle, parse_statement
from registry.trust.certificates import path_to_authority
from registry.trust.keys import certificate_fingerprint, checked_key, key_fingerprint, subject_of
from registry.trust.trust import Revocable, Trust, TrustedKey

_MAX_NAMED = 8
_MAX_SHOWN = 64  # characters of a path in an error


class Signatory(NamedTuple):
    """Who signed.

    Attributes:
        kind: "key" or "certificate".
        name: Of the key's file, or the subject of the certificate.
        fingerprint: SHA-256 that identifies the key or the certificate, in hex.
        comment: Of the trust root, about the key.
    """

    kind: str
    name: str
    fingerprint: str
    comment: str = ""

    def __str__(self) -> str:
        """Returns them for a human."""
        comment = f" ({self.comment})" if self.comment else ""
        return f"{self.kind} {self.name}{comment}, sha256 {self.fingerprint[:16]}"


class Verification(NamedTuple):
    """What the signatures of an artifact say.

    Attributes:
        signers: Who signed and is trusted.
        warnings: What the user is to be told under the policy "warn".
    """

    signers: tuple[Signatory, ...] = ()
    warnings: tuple[str, ...] = ()


def check_artifact(
    described: VerifiedDescriptor | LoadedArtifact, trust: Trust, now: datetime | None = None
) -> Verification:
    """Asks whether somebody who is trusted signed an artifact; reads its signatures alone.

    Raises:
        UntrustedError: as `check_signatures`.
    """
    return check_signatures(
        described.directory, digests_of_artifact(described), described.digest, trust, now
    )


def check_evaluation(
    stored: StoredEvaluation, trust: Trust, now: datetime | None = None
) -> Verification:
    """Asks whether somebody who is trusted signed an evaluation.

    Raises:
        UntrustedError: as `check_signatures`.
    """
    return check_signatures(
        stored.directory, digests_of_evaluation(stored), stored.digest, trust, now
    )


def digests_of_evaluation(stored: StoredEvaluation) -> dict[str, str]:
    """Returns the same of an evaluation; see `digests_of_artifact`."""
    return {
        **_message_digests(evaluations.MESSAGE, evaluations.DIGEST, stored.digest),
        evaluations.EXAMPLES: stored.evaluation.examples_sha256,
    }


def digests_of_artifact(described: VerifiedDescriptor | LoadedArtifact) -> dict[str, str]:
    """Returns the SHA-256 digest of each file that a signature of an artifact states, by path."""
    return {
        **_message_digests(DESCRIPTOR, DIGEST, described.digest),
        **{file.path: file.sha256 for file in described.artifact.files},
    }


def _message_digests(message: str, digest_file: str, digest: str) -> dict[str, str]:
    line = f"{digest}  {message}\n".encode()
    return {message: digest, digest_file: hashlib.sha256(line).hexdigest()}


def check_signatures(
    directory: Path,
    digests: Mapping[str, str],
    identity: str,
    trust: Trust,
    now: datetime | None = None,
) -> Verification:
    """Applies the user's policy to the signatures of a directory.

    Args:
        directory: Of which `signatures/*.sig` is read, and nothing else.
        digests: SHA-256 of each of its files by path, verified elsewhere.
        identity: SHA-256 of its descriptor, by which it may have been revoked.
        trust: Whom the user trusts.
        now: With a time zone; None: the present.

    Raises:
        UntrustedError: Under "require" and "warn": it was revoked, a signature file was changed or
            is not understood, or who is trusted signed another content. Under "require" also:
            nobody who is trusted has signed it.
    """
    if trust.policy == "off":
        return Verification()
    if ("artifact", identity) in trust.revoked:
        raise UntrustedError(f"{directory} was revoked{_reason(trust, 'artifact', identity)}")
    now = datetime.now(UTC) if now is None else now
    signers, problems = [], []
    for path in _signature_paths(directory):
        try:
            signers.append(_signatory(path, digests, trust, now))
        except _DoesNotCountError as error:
            problems.append(f"{path.name}: {error}")
        except (BundleError, TrustError) as error:
            raise UntrustedError(
                f"{path} is no signature of what is there: {error}; restore it, or sign again"
            ) from error
    if signers:
        return Verification(tuple(signers))
    found = "; ".join(problems) or "it has no signature"
    nobody = f"nobody who is trusted has signed {directory}: {found}"
    if trust.policy == "require":
        raise UntrustedError(f"{nobody}; sign it by a key of {trust.file}, or add whose it is")
    return Verification(warnings=(nobody,))


class _DoesNotCountError(Exception):
    """A signature that is as it was, by somebody who is not trusted."""


def _signature_paths(directory: Path) -> list[Path]:
    folder = directory / SIGNATURES
    try:
        if folder.is_symlink():
            raise UntrustedError(f"{folder} is a symbolic link; expected a directory")
        names = sorted(os.listdir(folder)) if os.path.lexists(folder) else []
    except OSError as error:
        raise UntrustedError(f"cannot read {folder}: {error.strerror}") from error
    if len(names) > MAX_SIGNATURES:
        raise UntrustedError(
            f"{folder} holds {len(names)} files; expected at most {MAX_SIGNATURES}"
        )
    for name in names:
        if not SIGNATURE_PATH.fullmatch(f"{SIGNATURES}/{name}"):
            raise UntrustedError(
                f"{folder} holds {name!r}; expected names such as 0123456789abcdef.sig"
            )
    return [folder / name for name in names]


def _signatory(path: Path, digests: Mapping[str, str], trust: Trust, now: datetime) -> Signatory:
    """Returns who signed.

    Raises:
        BundleError: The file was changed, or is the signature of something else.
        TrustError: It is by a key of a kind that no signature has.
        _DoesNotCountError: It is by somebody who is not trusted, now or at all.
    """
    try:
        content = read_small(path, MAX_SIGNATURE_BYTES)
    except ArtifactError as error:
        raise BundleError(str(error)) from error
    bundle = parse_bundle(content)
    if path.stem != bundle.fingerprint[: len(path.stem)]:
        raise BundleError(f"it says to be by {bundle.fingerprint[:16]}, which its name does not")
    if bundle.key_fingerprint is not None:
        return _key_owner(bundle, bundle.key_fingerprint, digests, trust, now)
    return _certificate_owner(bundle, digests, trust, now)


def _key_owner(
    bundle: Bundle, fingerprint: str, digests: Mapping[str, str], trust: Trust, now: datetime
) -> Signatory:
    trusted = trust.keys.get(fingerprint)
    if trusted is None:
        _check_no_other(fingerprint, trust)
        raise _DoesNotCountError(f"by the key {fingerprint}, which is not trusted")
    bundle.verify(trusted.key)
    _compare(parse_statement(bundle.payload), digests)
    _check_not_revoked(trust, "key", fingerprint)
    _check_time(trusted, now)
    return Signatory("key", trusted.name, fingerprint, trusted.comment)


def _check_no_other(fingerprint: str, trust: Trust) -> None:
    # Nobody can make a key of such a fingerprint; a digit of a trusted one's was changed.
    for trusted in trust.keys:
        if trusted[:16] == fingerprint[:16]:
            raise BundleError(f"it says to be by {fingerprint}, not by {trusted}; it was changed")


def _certificate_owner(
    bundle: Bundle, digests: Mapping[str, str], trust: Trust, now: datetime
) -> Signatory:
    leaf = bundle.certificates[0]
    subject = subject_of(leaf)
    key = checked_key(f"the certificate of {subject}", leaf.public_key())
    bundle.verify(key)
    _compare(parse_statement(bundle.payload), digests)
    try:
        path = path_to_authority(bundle.certificates, trust.authorities, now)
    except UntrustedError as error:
        raise _DoesNotCountError(str(error)) from error
    _check_not_revoked(trust, "key", key_fingerprint(key))
    for certificate in path:
        _check_not_revoked(trust, "certificate", certificate_fingerprint(certificate))
    return Signatory("certificate", subject, certificate_fingerprint(leaf))


def _compare(signed: Mapping[str, str], digests: Mapping[str, str]) -> None:
    """Raises BundleError unless who signed saw these files, all of them, and nothing else."""
    if less := digests.keys() - signed.keys():
        raise BundleError(f"who signed left out {_named(less)}")
    if more := signed.keys() - digests.keys():
        raise BundleError(f"who signed saw files that are not there: {_named(more)}")
    if other := [path for path, digest in digests.items() if signed[path] != digest]:
        raise BundleError(f"who signed saw another content of {_named(other)}")


def _named(paths: Collection[str]) -> str:
    shown = [printable(path[:_MAX_SHOWN]) for path in sorted(paths)[:_MAX_NAMED]]
    return ", ".join(
        shown + ([f"{len(paths) - _MAX_NAMED} more"] if len(paths) > _MAX_NAMED else [])
    )


def _check_not_revoked(trust: Trust, kind: Revocable, fingerprint: str) -> None:
    if (kind, fingerprint) in trust.revoked:
        reason = _reason(trust, kind, fingerprint)
        raise _DoesNotCountError(f"by the {kind} {fingerprint}, which was revoked{reason}")


def _check_time(key: TrustedKey, now: datetime) -> None:
    if key.not_before is not None and now < key.not_before:
        raise _DoesNotCountError(f"by {key.name}, which is not trusted before {key.not_before}")
    if key.not_after is not None and now >= key.not_after:
        raise _DoesNotCountError(f"by {key.name}, which was trusted until {key.not_after}")


def _reason(trust: Trust, kind: Revocable, fingerprint: str) -> str:
    reason = trust.revoked[kind, fingerprint]
    return f" ({reason})" if reason else ""
