"""Which layers a model of an image layout is made of."""

from typing import NamedTuple

from base.config import shown
from registry.oci.blobs import INDEX_FILE, LAYOUT_FILE, Layout, read_blob, read_small
from registry.oci.documents import (
    MAX_DOCUMENT_BYTES,
    REFERENCE_ANNOTATION,
    Descriptor,
    Index,
    LayoutError,
    LayoutFile,
    Manifest,
    ModelConfig,
    parse,
)
from registry.oci.media_types import (
    MANIFEST_TYPE,
    PATH_ANNOTATION,
    TITLE_ANNOTATION,
    Form,
    form_of,
)

_MAX_NAMED = 8  # manifests in an error


class Layer(NamedTuple):
    """A blob that holds files of a model.

    Attributes:
        blob: Its descriptor.
        form: How its bytes make files.
        diff_digest: SHA-256 of its bytes, decompressed.
        path: Of its file, relative to the artifact; of an archive a hint, which it need not have.
    """

    blob: Descriptor
    form: Form
    diff_digest: str
    path: str | None


def read_layers(layout: Layout, reference: str | None) -> list[Layer]:
    """Finds a model in a layout, and reads of what layers it is made.

    Args:
        layout: Where it is.
        reference: Its name in there, or the digest of its manifest; None for the only one.

    Raises:
        LayoutError: There is none or several, or what describes it is broken or means something
            that is not read.
        OSError: It cannot be read.
    """
    place = layout.place
    content = read_small(layout, LAYOUT_FILE, MAX_DOCUMENT_BYTES)
    parse(LayoutFile, content, f"{LAYOUT_FILE} of {place}")
    content = read_small(layout, INDEX_FILE, MAX_DOCUMENT_BYTES)
    index = parse(Index, content, f"{INDEX_FILE} of {place}")

    blob = _choose(index, reference, layout)
    content = read_blob(layout, blob, MAX_DOCUMENT_BYTES)
    manifest = parse(Manifest, content, f"manifest {blob.digest} of {place}")
    content = read_blob(layout, manifest.config, MAX_DOCUMENT_BYTES)
    where = f"config {manifest.config.digest} of {place}"
    diff_digests = parse(ModelConfig, content, where).files.diff_ids
    if len(diff_digests) != len(manifest.layers):
        raise LayoutError(
            f"{where}: modelfs.diffIds: expected one of each of the {len(manifest.layers)} layers, "
            f"got {len(diff_digests)}"
        )
    return [
        _layer(blob, digest, layout)
        for blob, digest in zip(manifest.layers, diff_digests, strict=True)
    ]


def _choose(index: Index, reference: str | None, layout: Layout) -> Descriptor:
    chosen = [
        manifest
        for manifest in index.manifests
        if reference in (None, manifest.digest, manifest.annotations.get(REFERENCE_ANNOTATION))
    ]
    # The same one may be listed under several names.
    if len({manifest.digest for manifest in chosen}) != 1:
        asked = "" if reference is None else f" called {shown(reference)}"
        held = ", ".join(_named(manifest) for manifest in index.manifests[:_MAX_NAMED])
        more = ", ..." if len(index.manifests) > _MAX_NAMED else ""
        raise LayoutError(
            f"{layout.place} holds {'several manifests' if chosen else 'no manifest'}{asked}; "
            f"give one of its references or digests: {held or 'there is none'}{more}"
        )
    if chosen[0].media_type != MANIFEST_TYPE:
        raise LayoutError(
            f"manifest {chosen[0].digest} of {layout.place} is {shown(chosen[0].media_type)}; "
            f"expected {MANIFEST_TYPE}: an index within the index is not followed"
        )
    return chosen[0]


def _named(manifest: Descriptor) -> str:
    return shown(manifest.annotations.get(REFERENCE_ANNOTATION, manifest.digest))


def _layer(blob: Descriptor, diff_digest: str, layout: Layout) -> Layer:
    where = f"layer {blob.digest} of {layout.place}"
    try:
        form = form_of(blob.media_type)
    except ValueError as error:
        raise LayoutError(f"{where}: {error}") from error
    if form != "tar+gzip" and diff_digest != blob.digest:
        raise LayoutError(
            f"{where} is not compressed, but the config says that it is {diff_digest}"
        )
    path = blob.annotations.get(PATH_ANNOTATION) or blob.annotations.get(TITLE_ANNOTATION)
    if form == "raw" and path is None:
        raise LayoutError(f"{where} is one file without a name; expected {PATH_ANNOTATION}")
    return Layer(blob, form, diff_digest, path)
