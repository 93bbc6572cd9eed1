"""Signatures of artifacts and evaluations, made by OpenSSF Model Signing's own library.

Its public tool verifies them without further flags, since each says itself that it leaves out the
folder of signatures:

    model_signing verify key DIRECTORY --signature DIRECTORY/signatures/KEY.sig --public_key KEY.pub
"""

import getpass
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from base.files import flush
from registry.artifact import read_descriptor
from registry.descriptor import DESCRIPTOR, SIGNATURES
from registry.errors import TrustError
from registry.evaluations import MESSAGE, read_evaluation
from registry.trust.bundle import BundleError, parse_bundle, parse_statement
from registry.trust.keys import (
    certificate_fingerprint,
    checked_key,
    key_fingerprint,
    public_pem,
    read_certificates,
    read_pem,
)
from registry.trust.verification import digests_of_artifact, digests_of_evaluation

# The variable with the password of a private key, for programs that nobody sits at.
PASSWORD_VARIABLE = "HPC_SIGNING_PASSWORD"  # noqa: S105


class Signer(NamedTuple):
    """Who signs.

    Attributes:
        key: Private.
        certificates: Of the key, then those that issued it; empty: the key signs by itself.
    """

    key: ec.EllipticCurvePrivateKey
    certificates: tuple[x509.Certificate, ...] = ()

    @classmethod
    def read(
        cls,
        key: Path,
        certificate: Path | None = None,
        chain: Sequence[Path] = (),
        password: Callable[[Path], str] | None = None,
    ) -> "Signer":
        """Reads a signer from PEM files.

        Args:
            key: The private key.
            certificate: Of the key.
            chain: Files of those that issued it, the authority last.
            password: Asked for that of an encrypted key; None: $HPC_SIGNING_PASSWORD, or else who
                sits at the terminal.

        Raises:
            TrustError: A file cannot be read or holds something else; the password is missing or
                wrong; the certificate is of another key, or has no chain.
        """
        private = _read_private_key(key, password or _ask_password)
        if certificate is None:
            return cls(private)
        own = read_certificates(certificate)
        if own[0].public_key() != private.public_key():
            raise TrustError(f"{certificate} is not the certificate of {key}, but of another key")
        issuers = own[1:] + [found for file in chain for found in read_certificates(file)]
        if not issuers:
            raise TrustError(
                f"{certificate}: the certificates that issued it are missing; name their files, "
                "the authority's last, by --chain"
            )
        return cls(private, (own[0], *issuers))

    @property
    def fingerprint(self) -> str:
        """What identifies them: SHA-256 of the certificate, or of the public key."""
        if self.certificates:
            return certificate_fingerprint(self.certificates[0])
        return key_fingerprint(self.key.public_key())


def generate_key_pair(private: Path, password: str | None = None) -> Path:
    """Makes a key pair on P-256 and returns the file of the public key, `private` with ".pub".

    Args:
        private: Where to write the private key, which nobody else may read then.
        password: To encrypt it; None: $HPC_SIGNING_PASSWORD, and not at all if that is empty.

    Raises:
        TrustError: There is such a file, or none can be written.
    """
    password = os.environ.get(PASSWORD_VARIABLE, "") if password is None else password
    key = ec.generate_private_key(ec.SECP256R1())
    public = private.with_name(f"{private.name}.pub")
    contents = {
        public: (public_pem(key.public_key()), 0o644),
        private: (_pem(key, password), 0o600),
    }
    with ExitStack() as undo:
        for path, (content, mode) in contents.items():
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
                undo.callback(path.unlink)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
            except FileExistsError as error:
                raise TrustError(f"{path} exists; a key is never replaced, name another") from error
            except (OSError, ValueError) as error:
                raise TrustError(f"cannot write {path}: {_why(error)}") from error
        undo.pop_all()
    return public


def sign_directory(directory: Path, signer: Signer) -> Path:
    """Signs an artifact or an evaluation; other signatures stay.

    All files are read and hashed, but what they must be is what the descriptor says: verify the
    directory first, or sign what was just published.

    Args:
        directory: Of an artifact or of an evaluation.
        signer: Who signs. Their earlier signature is replaced.

    Returns:
        The signature's file, `signatures/` and the first 16 digits of the fingerprint.

    Raises:
        ArtifactError: The directory holds neither, or other files than it lists.
        TrustError: The signature cannot be made or written.
    """
    digests = _digests(directory)
    folder = directory / SIGNATURES
    path = folder / f"{signer.fingerprint[:16]}.sig"
    # Beside the directory: readers refuse a file in it that they do not know.
    temporary = directory.absolute().with_name(f".partial-{secrets.token_hex(8)}")
    try:
        folder.mkdir(exist_ok=True)
        _sign(directory, signer, temporary)
        bundle = parse_bundle(temporary.read_bytes())
        bundle.verify(signer.key.public_key())
        if parse_statement(bundle.payload) != digests:
            raise TrustError(
                f"{directory} was not signed: its files are not as its descriptor says; verify it"
            )
        flush(temporary)
        temporary.replace(path)
        flush(folder)
    except (OSError, ValueError, BundleError) as error:
        raise TrustError(f"cannot sign {directory}: {_why(error)}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _digests(directory: Path) -> dict[str, str]:
    """Returns what a signature has to state, by what the directory itself says."""
    if (directory / DESCRIPTOR).exists() or not (directory / MESSAGE).exists():
        return digests_of_artifact(read_descriptor(directory))
    return digests_of_evaluation(read_evaluation(directory))


def _sign(directory: Path, signer: Signer, signature: Path) -> None:
    # Takes a second to import, and nobody who only verifies needs it.
    from model_signing import hashing, signing

    hashed = hashing.Config().set_ignored_paths(paths=[SIGNATURES], ignore_git_paths=False)
    config = signing.Config().set_hashing_config(hashed)
    with ExitStack() as files:
        key = files.enter_context(_in_memory(_pem(signer.key, "")))
        if signer.certificates:
            own, *issuers = [
                files.enter_context(
                    _in_memory(certificate.public_bytes(serialization.Encoding.PEM))
                )
                for certificate in signer.certificates
            ]
            config.use_certificate_signer(
                private_key=key, signing_certificate=own, certificate_chain=issuers
            )
        else:
            config.use_elliptic_key_signer(private_key=key)
    config.sign(directory, signature)


@contextmanager
def _in_memory(content: bytes) -> Iterator[Path]:
    """Yields a path where a library finds bytes that never come to a disk."""
    descriptor = os.memfd_create("key", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(content)
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _pem(key: ec.EllipticCurvePrivateKey, password: str) -> bytes:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        encryption = serialization.BestAvailableEncryption(password.encode())
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


def _read_private_key(path: Path, password: Callable[[Path], str]) -> ec.EllipticCurvePrivateKey:
    content = read_pem(path)
    if b"PRIVATE KEY" not in content:
        raise TrustError(f"{path} is no private key in PEM; name the one that signs")
    try:
        key = serialization.load_pem_private_key(content, None)
    except TypeError:  # it is encrypted
        key = _decrypted(path, content, password(path))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise TrustError(f"{path} is no private key that can be read: {_why(error)}") from error
    checked_key(str(path), key.public_key())
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # as its public key is
    return key


def _decrypted(path: Path, content: bytes, password: str) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(content, password.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise TrustError(f"{path} is encrypted, and the password is not the right one") from error


def _ask_password(path: Path) -> str:
    given = os.environ.get(PASSWORD_VARIABLE)
    if given:
        return given
    if sys.stdin is None or not sys.stdin.isatty():  # None: it is closed
        raise TrustError(f"{path} is encrypted; give its password in ${PASSWORD_VARIABLE}")
    return getpass.getpass(f"Password of {path}: ")


def _why(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
