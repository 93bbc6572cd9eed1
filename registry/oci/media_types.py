"""What the files of an artifact are called in ModelPack, and which of its layers can be read.

Reference: CNCF ModelPack, model-spec: specs-go/v1/mediatype.go and specs-go/v1/annotations.go; the
OCI image specification 1.1, annotations.md.
"""

import re
from pathlib import PurePosixPath
from typing import Literal, get_args

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
MODEL_TYPE = "application/vnd.cncf.model.manifest.v1+json"
MODEL_CONFIG_TYPE = "application/vnd.cncf.model.config.v1+json"

PATH_ANNOTATION = "org.cncf.model.filepath"
# By this one general tools name the files that they write.
TITLE_ANNOTATION = "org.opencontainers.image.title"

# How the bytes of a layer make files: one file, or those of an archive.
Form = Literal["raw", "tar", "tar+gzip"]

_CONTENTS = ("weight", "weight.config", "doc", "code", "dataset")
_LAYER_TYPE = re.compile(
    rf"application/vnd\.cncf\.model\.(?:{'|'.join(map(re.escape, _CONTENTS))})\.v1\.(?P<form>.+)"
)


def layer_type(path: str) -> str:
    """Returns the media type of a layer that is one file of an artifact, by what is in it.

    Args:
        path: Of the file, relative to the artifact.
    """
    return f"application/vnd.cncf.model.{_content(PurePosixPath(path))}.v1.raw"


def _content(path: PurePosixPath) -> str:
    match path.parts:
        case ("model.safetensors",):
            return "weight"
        case ("probe.safetensors",):
            return "dataset"
        case ("programs", *_):
            return "code"
        case ("signatures", *_):
            return "doc"
    return "doc" if path.suffix == ".md" else "weight.config"


def form_of(media_type: str) -> Form:
    """Returns how the bytes of a layer make files.

    Raises:
        ValueError: It is none of ModelPack's layers, or compressed in another way than gzip's.
    """
    match = _LAYER_TYPE.fullmatch(media_type)
    for form in get_args(Form):
        if match and match["form"] == form:
            return form
    raise ValueError(
        f"media type {media_type[:80]!r} cannot be read; expected application/vnd.cncf.model.KIND"
        f".v1.FORM with a KIND of {', '.join(_CONTENTS)} and a FORM of {', '.join(get_args(Form))}"
    )
