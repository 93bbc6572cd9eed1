"""Certificates: whether an authority that is trusted vouches, now, for who signed.

The path is built and checked by the `cryptography` library after RFC 5280: validity of every
certificate at the time given, names, path lengths, key strengths. `model_signing` itself checks a
path at the time at which the signing certificate began, so that it never notices an expired one.
"""

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from registry.errors import UntrustedError
from registry.trust.keys import subject_of
from registry.trust.trust import Authority

# What the library and this file check; a certificate that insists on more is refused.
_HEEDED = {
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.EXTENDED_KEY_USAGE,
    ExtensionOID.NAME_CONSTRAINTS,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
}


def path_to_authority(
    certificates: Sequence[x509.Certificate], authorities: Sequence[Authority], now: datetime
) -> list[x509.Certificate]:
    """Returns the certificates from who signed to an authority that is trusted.

    Args:
        certificates: That of who signed, then those that issued it, one after another; with or
            without that of the authority.
        authorities: That are trusted.
        now: With a time zone.

    Raises:
        UntrustedError: There is no such path now; or a certificate must not be used so; or the
            authority is trusted for other subjects alone; or not all certificates are of the path.
    """
    leaf = certificates[0]
    subject = subject_of(leaf)
    allowed = [
        authority.certificate
        for authority in authorities
        if not authority.subjects or subject in authority.subjects
    ]
    if not allowed:
        raise UntrustedError(f"no authority is trusted to vouch for {subject}")
    for certificate in certificates:
        _check_validity(certificate, now)
    verifier = (
        verification.PolicyBuilder()
        .store(verification.Store(allowed))
        .time(now)
        .max_chain_depth(len(certificates))
        .extension_policies(ca_policy=_authority_policy(), ee_policy=_signer_policy())
        .build_client_verifier()
    )
    try:
        path = verifier.verify(leaf, list(certificates[1:])).chain
    except verification.VerificationError as error:
        raise UntrustedError(f"no trusted authority vouches for {subject}: {error}") from error
    # Each byte of the file is then one that a trusted signature covers.
    if path[: len(certificates)] != list(certificates):
        raise UntrustedError(f"the certificates are not those from {subject} to an authority")
    for certificate in path:
        _check_critical(certificate)
    return path


def _check_validity(certificate: x509.Certificate, now: datetime) -> None:
    """Says what the library's error does not: since when, and which."""
    subject = subject_of(certificate)
    if now < certificate.not_valid_before_utc:
        begin = certificate.not_valid_before_utc
        raise UntrustedError(f"the certificate of {subject} is not valid before {begin}")
    if now > certificate.not_valid_after_utc:
        raise UntrustedError(
            f"the certificate of {subject} expired at {certificate.not_valid_after_utc}"
        )


def _check_critical(certificate: x509.Certificate) -> None:
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in _HEEDED:
            raise UntrustedError(
                f"the certificate of {subject_of(certificate)} insists on "
                f"{extension.oid.dotted_string}, which is not understood"
            )


def _authority_policy() -> verification.ExtensionPolicy:
    agnostic = verification.Criticality.AGNOSTIC
    return (
        verification.ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, agnostic, _require_authority)
        .may_be_present(x509.KeyUsage, agnostic, _require_signing_of_certificates)
    )


def _signer_policy() -> verification.ExtensionPolicy:
    agnostic = verification.Criticality.AGNOSTIC
    return (
        verification.ExtensionPolicy.permit_all()
        .may_be_present(x509.BasicConstraints, agnostic, None)
        .require_present(x509.KeyUsage, agnostic, _require_signing)
        .may_be_present(x509.ExtendedKeyUsage, agnostic, _require_code_signing)
    )


def _require_authority(
    _policy: verification.Policy, _certificate: x509.Certificate, extension: x509.BasicConstraints
) -> None:
    if not extension.ca:
        raise ValueError("it is no authority's")


def _require_signing_of_certificates(
    _policy: verification.Policy, _certificate: x509.Certificate, extension: x509.KeyUsage | None
) -> None:
    if extension is not None and not extension.key_cert_sign:
        raise ValueError("it must not sign certificates (keyUsage)")


def _require_signing(
    _policy: verification.Policy, _certificate: x509.Certificate, extension: x509.KeyUsage
) -> None:
    if not extension.digital_signature:
        raise ValueError("it must not sign (keyUsage)")


def _require_code_signing(
    _policy: verification.Policy,
    _certificate: x509.Certificate,
    extension: x509.ExtendedKeyUsage | None,
) -> None:
    if extension is not None and ExtendedKeyUsageOID.CODE_SIGNING not in extension:
        raise ValueError("it is for other uses than signing code (extendedKeyUsage)")
