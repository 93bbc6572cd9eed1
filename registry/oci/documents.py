"""The JSON documents of an OCI image layout: what one must state, and one line about what is wrong.

Reference: the OCI image specification 1.1 (image-layout.md, image-index.md, manifest.md,
descriptor.md); CNCF ModelPack, model-spec: specs-go/v1/config.go and schema/config-schema.json.
Both want unknown fields to be passed over. Known ones are held to their types here.
"""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, ValidationError

from base.config import FROM_LIST, MAX_INTEGER, STRICT_INTEGER, Section, explain, one_of, shown
from registry.contents import MAX_SIGNATURES
from registry.descriptor import MAX_FILES
from registry.errors import ArtifactError
from registry.oci.media_types import MANIFEST_TYPE, MODEL_CONFIG_TYPE, MODEL_TYPE

# What registries take of a manifest, and more than any of these documents needs.
MAX_DOCUMENT_BYTES = 4 * 2**20

LAYOUT_VERSION = "1.0.0"
REFERENCE_ANNOTATION = "org.opencontainers.image.ref.name"

_ALGORITHM = "sha256:"
_DIGEST = re.compile(_ALGORITHM + "[0-9a-f]{64}")

# The grammar of `ref.name` in annotations.md, and a bound.
REFERENCE = re.compile(r"[A-Za-z0-9]+(?:(?:[-._:@+]|--|/)[A-Za-z0-9]+)*")
MAX_REFERENCE_LENGTH = 255

# The descriptor, its digest, and all else that an artifact may have.
_MAX_LAYERS = 2 + MAX_FILES + MAX_SIGNATURES


class LayoutError(ArtifactError):
    """An OCI image layout that cannot be written or must not be trusted, why, and what to do."""


class _Document(Section):
    model_config = ConfigDict(extra="ignore")


def digest_of(hexadecimal: str) -> str:
    """Returns a SHA-256 as OCI writes it."""
    return _ALGORITHM + hexadecimal


def is_digest(text: str) -> bool:
    """Says whether a text is a SHA-256 as OCI writes it."""
    return _DIGEST.fullmatch(text) is not None


def _require_digest(text: str) -> str:
    if not is_digest(text):
        raise ValueError(f"expected sha256:<64 lower-case hexadecimal digits>, got {shown(text)}")
    return text


def _refuse_urls(urls: tuple[str, ...]) -> tuple[str, ...]:
    if urls:
        raise ValueError(f"nothing is fetched from elsewhere, got {shown(list(urls))}")
    return urls


Digest = Annotated[str, AfterValidator(_require_digest)]


class Descriptor(_Document):
    """A blob by its digest and size in bytes."""

    media_type: str = Field(alias="mediaType")
    digest: Digest
    size: int = Field(ge=0, le=MAX_INTEGER)
    annotations: dict[str, str] = Field(default_factory=dict)
    urls: Annotated[tuple[str, ...], FROM_LIST, AfterValidator(_refuse_urls)] = ()


class LayoutFile(_Document):
    """`oci-layout`."""

    version: Annotated[str, one_of([LAYOUT_VERSION])] = Field(alias="imageLayoutVersion")


class Index(_Document):
    """`index.json`."""

    schema_version: Annotated[Literal[2], STRICT_INTEGER] = Field(alias="schemaVersion")
    manifests: Annotated[tuple[Descriptor, ...], FROM_LIST]


class ConfigDescriptor(Descriptor):
    """The descriptor of a ModelPack configuration."""

    media_type: Annotated[str, one_of([MODEL_CONFIG_TYPE])] = Field(alias="mediaType")


class Manifest(_Document):
    """An image manifest that holds a ModelPack model."""

    schema_version: Annotated[Literal[2], STRICT_INTEGER] = Field(alias="schemaVersion")
    media_type: Annotated[str, one_of([MANIFEST_TYPE])] = Field(alias="mediaType")
    artifact_type: Annotated[str, one_of([MODEL_TYPE])] = Field(alias="artifactType")
    config: ConfigDescriptor
    layers: Annotated[
        tuple[Descriptor, ...], FROM_LIST, Field(min_length=1, max_length=_MAX_LAYERS)
    ]


class ModelFiles(_Document):
    """`modelfs`: the digest of each layer, in order, once it is decompressed."""

    type: Literal["layers"]
    diff_ids: Annotated[tuple[Digest, ...], FROM_LIST] = Field(alias="diffIds")


class ModelConfig(_Document):
    """A ModelPack configuration, as far as it says how to read the layers."""

    files: ModelFiles = Field(alias="modelfs")


Kind = TypeVar("Kind", bound=_Document)


def parse(kind: type[Kind], content: bytes, where: str) -> Kind:
    """Returns a document.

    Args:
        kind: Its type.
        content: JSON in UTF-8.
        where: What an error calls it.

    Raises:
        LayoutError: It is not JSON, repeats a key, or does not state what it must.
    """
    try:
        value = json.loads(
            content.decode(), object_pairs_hook=_object_of_unique_keys, parse_constant=_refuse
        )
    except (ValueError, RecursionError) as error:  # RecursionError: thousands of brackets
        raise LayoutError(f"{where} is not JSON: {error}; export it again") from error
    if not isinstance(value, dict):
        raise LayoutError(f"{where} is not a JSON object: expected {{...}}, got {shown(value)}")
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise LayoutError(f"{where}: {explain(error, kind)[0]}") from error


def serialize(document: Mapping[str, Any]) -> bytes:
    """Returns a document as JSON, of the same bytes for the same document."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def check_reference(reference: str) -> None:
    """Checks a name that a manifest is to have in its layout.

    Raises:
        LayoutError: The specification does not allow it.
    """
    if len(reference) > MAX_REFERENCE_LENGTH or not REFERENCE.fullmatch(reference):
        raise LayoutError(
            f"reference {shown(reference)} is refused; expected at most {MAX_REFERENCE_LENGTH} "
            "letters and digits, joined by single '.', '_', '-', ':', '@', '+' or '/'"
        )


def _object_of_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {shown(key)} is repeated")
        found[key] = value
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")
