"""A signature file: a Sigstore bundle with a signed statement of which files have which digests.

Only one way to write a bundle is accepted, that of the `model_signing` library (compact JSON,
base64 with padding), and each of its bytes means something, so that a file that was changed
anywhere is refused and not merely read otherwise.

References: https://docs.sigstore.dev/about/bundle/; the envelope is DSSE v1.0.2,
https://github.com/secure-systems-lab/dsse; the statement is that of OpenSSF Model Signing v1.0.
"""

import base64
import binascii
import hashlib
import json
from typing import Annotated, Any, Literal, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ConfigDict, Field, ValidationError

from base.config import Section, explain
from registry.errors import ArtifactError
from registry.trust.keys import certificate_fingerprint, signature_algorithm

_MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_MAX_CHAIN = 8

# What the library raises of bytes that are no certificate, or one of which it knows a part only.
_NO_CERTIFICATE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class BundleError(ArtifactError):
    """A file that is no signature that is understood, or one that was changed."""


class _Part(Section):
    """Of a bundle; its keys are as they stand in JSON."""

    model_config = ConfigDict(populate_by_name=False)


class _PublicKey(_Part):
    hint: Sha256


class _Certificate(_Part):
    raw_bytes: str = Field(alias="rawBytes")


class _Chain(_Part):
    certificates: Annotated[list[_Certificate], Field(min_length=1, max_length=_MAX_CHAIN)]


class _Material(_Part):
    public_key: _PublicKey | None = Field(None, alias="publicKey")
    chain: _Chain | None = Field(None, alias="x509CertificateChain")
    log: Annotated[list[str], Field(max_length=0, alias="tlogEntries")]


class _Signature(_Part):
    sig: str
    keyid: Literal[""]


class _Envelope(_Part):
    payload: str
    payload_type: Literal["application/vnd.in-toto+json"] = Field(alias="payloadType")
    signatures: Annotated[list[_Signature], Field(min_length=1, max_length=1)]


class _Bundle(_Part):
    media_type: Literal["application/vnd.dev.sigstore.bundle.v0.3+json"] = Field(alias="mediaType")
    material: _Material = Field(alias="verificationMaterial")
    envelope: _Envelope = Field(alias="dsseEnvelope")


class Bundle(NamedTuple):
    """A signature, of which nothing has been verified.

    Attributes:
        payload: What was signed, a statement in JSON.
        signature: Of it.
        key_fingerprint: Of the key that is said to have signed; None: `certificates` say it.
        certificates: That of who signed, and those that issued it, one after another.
    """

    payload: bytes
    signature: bytes
    key_fingerprint: str | None
    certificates: tuple[x509.Certificate, ...]

    @property
    def fingerprint(self) -> str:
        """Of the key, or of the certificate of who signed."""
        return self.key_fingerprint or certificate_fingerprint(self.certificates[0])

    def verify(self, key: ec.EllipticCurvePublicKey) -> None:
        """Checks that a key's owner signed the payload.

        Raises:
            BundleError: Nobody with that key did.
        """
        signed = b"DSSEv1 %d %s %d %s" % (
            len(_PAYLOAD_TYPE),
            _PAYLOAD_TYPE.encode(),
            len(self.payload),
            self.payload,
        )
        try:
            key.verify(self.signature, signed, signature_algorithm(key))
        except InvalidSignature as error:
            raise BundleError("the signature is not that of its content; it was changed") from error


def parse_bundle(content: bytes) -> Bundle:
    """Reads a signature file.

    Raises:
        BundleError: It is none of the two kinds, by a key or by a certificate, or is written in
            another way.
    """
    value = strict_json(content)
    # As the library writes: no space, and nothing escaped that need not be.
    if json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() != content:
        raise BundleError("it is not written as the tools write it; it was changed")
    try:
        bundle = _Bundle.model_validate(value)
    except ValidationError as error:
        raise BundleError(
            f"no signature by a key or a certificate: {explain(error, _Bundle)[0]}"
        ) from error
    material, envelope = bundle.material, bundle.envelope
    if (material.public_key is None) == (material.chain is None):
        raise BundleError("no signature by a key or a certificate: expected one of the two")
    chain = () if material.chain is None else material.chain.certificates
    return Bundle(
        payload=_base64(envelope.payload),
        signature=_base64(envelope.signatures[0].sig),
        key_fingerprint=None if material.public_key is None else material.public_key.hint,
        certificates=tuple(_certificate(part.raw_bytes) for part in chain),
    )


def strict_json(content: bytes) -> Any:
    """Returns what JSON says, if it says it in one way: no key twice, no NaN.

    Raises:
        BundleError: It is not such JSON.
    """
    try:
        return json.loads(content.decode(), object_pairs_hook=_unique, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:  # also of UTF-8
        raise BundleError(f"it is not JSON: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _base64(text: str) -> bytes:
    """Returns what base64 says; bits that say nothing, of the last digit, are to be zero."""
    try:
        content = base64.b64decode(text.encode(), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise BundleError(f"it is not base64: {error}") from error
    if base64.b64encode(content).decode() != text:
        raise BundleError("its base64 is not written as the tools write it; it was changed")
    return content


def _certificate(text: str) -> x509.Certificate:
    content = _base64(text)
    try:
        certificate = x509.load_der_x509_certificate(content)
        # The library looks at each of these when it is asked for.
        _ = certificate.version, certificate.subject, certificate.issuer, certificate.extensions
        _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        certificate.public_key()
    except _NO_CERTIFICATE as error:
        raise BundleError(f"it holds no X.509 certificate: {error}") from error
    # Its last part is the issuer's signature, as bits of which none is left over: a number of spare
    # bits that was changed would be read as the same signature.
    if not content.endswith(b"\0" + certificate.signature):
        raise BundleError("a certificate is not written as the tools write it; it was changed")
    return certificate


class _Subject(_Part):
    name: str
    digest: dict[str, str]


class _Serialization(_Part):
    method: str
    hash_type: str
    allow_symlinks: bool
    ignore_paths: list[str] = Field(default_factory=list)


class _Resource(_Part):
    name: str
    algorithm: str
    digest: Sha256


class _Predicate(_Part):
    serialization: _Serialization
    resources: list[_Resource]


class _Statement(_Part):
    type: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    predicate_type: Literal["https://model_signing/signature/v1.0"] = Field(alias="predicateType")
    subject: Annotated[list[_Subject], Field(min_length=1, max_length=1)]
    predicate: _Predicate


# What the public tool ignores unless told otherwise; none of it can be in an artifact.
_GIT_PATHS = (".git", ".gitattributes", ".github", ".gitignore")


def parse_statement(payload: bytes) -> dict[str, str]:
    """Returns the SHA-256 digest of each file of a statement, by its path.

    Raises:
        BundleError: It is no statement of OpenSSF Model Signing 1.0, or one of another kind: with
            digests of parts of files or other digests than SHA-256, or which leaves out files.
    """
    try:
        statement = _Statement.model_validate(strict_json(payload))
    except ValidationError as error:
        raise BundleError(
            f"what was signed is no statement of model signing 1.0: {explain(error, _Statement)[0]}"
        ) from error
    how, resources = statement.predicate.serialization, statement.predicate.resources
    algorithms = {how.hash_type, *(resource.algorithm for resource in resources)}
    if how.method != "files" or algorithms != {"sha256"} or how.allow_symlinks:
        raise BundleError(
            f"it was signed by {how.method} and {', '.join(sorted(algorithms))}"
            f"{', following links' if how.allow_symlinks else ''}; expected SHA-256 of whole files"
        )
    for path in how.ignore_paths:
        if path not in _GIT_PATHS and path.split("/")[0] != "signatures":
            raise BundleError(f"who signed left out {path!r}; expected only signatures left out")
    digests = {resource.name: resource.digest for resource in resources}
    if len(digests) != len(resources):
        raise BundleError("what was signed names a file twice")
    root = hashlib.sha256(b"".join(bytes.fromhex(resource.digest) for resource in resources))
    if statement.subject[0].digest != {"sha256": root.hexdigest()}:
        raise BundleError("what was signed has another digest as a whole than its files have")
    return digests
