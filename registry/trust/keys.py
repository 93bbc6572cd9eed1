"""Public keys and certificates: read from PEM files, checked, and named by what identifies them.

The fingerprint of a key is the SHA-256 digest of its PEM file as every tool writes it, so that
`sha256sum key.pub` prints it; OpenSSF Model Signing calls it the hint. That of a certificate is, as
everywhere, the digest of its DER form: `openssl x509 -noout -fingerprint -sha256`.
"""

import hashlib
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from base.text import printable
from registry.errors import ArtifactError, TrustError
from registry.payload import read_small

# The hash that goes with a curve, by the Sigstore protobuf specifications.
CURVES: dict[str, type[hashes.HashAlgorithm]] = {
    "secp256r1": hashes.SHA256,
    "secp384r1": hashes.SHA384,
    "secp521r1": hashes.SHA512,
}
_ACCEPTED = "an elliptic curve key on P-256, P-384 or P-521"

_MAX_PEM_BYTES = 2**16


def read_pem(path: Path) -> bytes:
    """Returns a file of keys or certificates. It may be a link, as secrets in containers are.

    Raises:
        TrustError: It cannot be read, or is larger than any such file.
    """
    try:
        return read_small(path.resolve(), _MAX_PEM_BYTES)
    except (ArtifactError, OSError, RuntimeError, ValueError) as error:  # RuntimeError: a loop
        raise TrustError(f"{path}: no key or certificate can be read there: {error}") from error


def read_public_key(path: Path) -> ec.EllipticCurvePublicKey:
    """Returns the public key of a PEM file.

    Raises:
        TrustError: It cannot be read, is no public key, or one of another kind or curve.
    """
    content = read_pem(path)
    if b"PRIVATE KEY" in content:
        raise TrustError(
            f"{path} is a private key, which nobody who verifies should have; name the public one"
        )
    try:
        key = serialization.load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise TrustError(f"{path} is no public key in PEM; expected {_ACCEPTED}") from error
    return checked_key(str(path), key)


def checked_key(where: str, key: object) -> ec.EllipticCurvePublicKey:
    """Returns a public key if it is of a kind and a curve that signatures may have.

    Raises:
        TrustError: It is not.
    """
    if not isinstance(key, ec.EllipticCurvePublicKey):
        kind = type(key).__name__.lstrip("_").removesuffix("PublicKey")
        raise TrustError(f"{where}: the key is {kind}; expected {_ACCEPTED}")
    if key.curve.name not in CURVES:
        raise TrustError(f"{where}: the key is on the curve {key.curve.name}; expected {_ACCEPTED}")
    return key


def read_certificates(path: Path) -> list[x509.Certificate]:
    """Returns the certificates of a PEM file, of which there is at least one.

    Raises:
        TrustError: It cannot be read or holds none.
    """
    try:
        return x509.load_pem_x509_certificates(read_pem(path))
    except ValueError as error:
        raise TrustError(f"{path} holds no certificate in PEM") from error


def public_pem(key: ec.EllipticCurvePublicKey) -> bytes:
    """Returns a public key as the text of a PEM file."""
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def key_fingerprint(key: ec.EllipticCurvePublicKey) -> str:
    """Returns what identifies a key: SHA-256 of its PEM file, in hex."""
    return hashlib.sha256(public_pem(key)).hexdigest()


def certificate_fingerprint(certificate: x509.Certificate) -> str:
    """Returns what identifies a certificate: SHA-256 of its DER form, in hex."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def subject_of(certificate: x509.Certificate) -> str:
    """Returns the name of a certificate's owner, such as `CN=release,O=Example`."""
    return printable(certificate.subject.rfc4514_string())


def signature_algorithm(key: ec.EllipticCurvePublicKey) -> ec.ECDSA:
    """Returns how a key of `checked_key` signs."""
    return ec.ECDSA(CURVES[key.curve.name]())
