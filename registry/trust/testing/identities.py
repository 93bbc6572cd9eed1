"""Keys and certificates for tests, made in memory and written as PEM files."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

# When the tests take place, and how long certificates hold before and after it.
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
DAY = timedelta(days=1)


class Identity(NamedTuple):
    """A private key, the certificate of its public one, and the name in it."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    name: str


def issue(
    name: str,
    issuer: Identity | None = None,
    *,
    authority: bool = False,
    begins: datetime = NOW - 10 * DAY,
    ends: datetime = NOW + 10 * DAY,
    uses: Sequence[ObjectIdentifier] = (ExtendedKeyUsageOID.CODE_SIGNING,),
    may_sign: bool = True,
    path_length: int | None = None,
) -> Identity:
    """Makes a key and its certificate, issued by `issuer` or, without one, by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = x509.KeyUsage(
        digital_signature=may_sign and not authority,
        content_commitment=False,
        key_encipherment=not may_sign,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(authority, path_length), critical=True)
        .add_extension(usage, critical=True)
    )
    if uses and not authority:
        builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
    signing_key = key if issuer is None else issuer.key
    return Identity(key, builder.sign(signing_key, hashes.SHA256()), name)


def write_certificate(path: Path, *identities: Identity) -> Path:
    """Writes certificates into one PEM file, and returns it."""
    path.write_bytes(
        b"".join(
            identity.certificate.public_bytes(serialization.Encoding.PEM) for identity in identities
        )
    )
    return path


def write_private_key(path: Path, key: object, password: str = "") -> Path:
    """Writes a private key as PEM, and returns the file."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        encryption = serialization.BestAvailableEncryption(password.encode())
    content = key.private_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
    path.write_bytes(content)
    return path


def write_public_key(path: Path, key: object) -> Path:
    """Writes the public key of a private one as PEM, and returns the file."""
    content = key.public_key().public_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    path.write_bytes(content)
    return path
