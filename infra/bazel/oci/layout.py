"""Writes an image as an OCI image layout; run by oci_image.bzl.

layout SPECIFICATION.json LAYOUT_DIR DIGEST.txt SBOM.spdx.json

Reference: the OCI image specification 1.1, image-layout.md, manifest.md and config.md.
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from infra.bazel.oci.parts import Part
from infra.bazel.oci.sbom import document

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
REFERENCE = "org.opencontainers.image.ref.name"

# The same for every build: the epoch.
_CREATED = "1970-01-01T00:00:00Z"
_SECOND_NS = 10**9


def serialize(value: object) -> bytes:
    """Returns JSON whose bytes depend on the value alone."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def config_of(settings: Mapping[str, Any], layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the configuration of an image.

    Args:
        settings: `entrypoint`, `command`, `environment`, `user`, `directory`, `ports`, `volumes`,
            `labels` and `health`, a command.
        layers: Descriptors, the lowest first.
    """
    config: dict[str, Any] = {
        "Entrypoint": settings["entrypoint"],
        "Cmd": settings["command"],
        "Env": [f"{key}={value}" for key, value in sorted(settings["environment"].items())],
        "User": settings["user"],
        "WorkingDir": settings["directory"],
        "ExposedPorts": {f"{port}/tcp": {} for port in settings["ports"]},
        "Volumes": {volume: {} for volume in settings["volumes"]},
        "Labels": settings["labels"],
        "StopSignal": "SIGTERM",
    }
    if settings["health"]:
        # Docker's, which OCI has not; who does not know it passes it over.
        config["Healthcheck"] = {
            "Test": ["CMD", *settings["health"]],
            "Interval": 10 * _SECOND_NS,
            "Timeout": 5 * _SECOND_NS,
            "StartPeriod": 60 * _SECOND_NS,
            "Retries": 3,
        }
    return {
        "architecture": "amd64",
        "os": "linux",
        "created": _CREATED,
        "config": {key: value for key, value in config.items() if value},
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{layer['diff_digest']}" for layer in layers],
        },
        "history": [
            {"created": _CREATED, "created_by": "bazel", "comment": layer["name"]}
            for layer in layers
        ],
    }


def write_layout(
    settings: Mapping[str, Any], layers: Sequence[Mapping[str, Any]], target: Path
) -> str:
    """Writes a layout of one image, and returns the digest of its manifest, "sha256:...".

    Args:
        settings: See `config_of`; and `reference`, the image's name in the layout.
        layers: Descriptors, the lowest first, each with the `archive` that it describes.
        target: The layout's folder.
    """
    blobs = target / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for layer in layers:
        _share(Path(layer["archive"]), blobs / layer["digest"])
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": _write(blobs, config_of(settings, layers), CONFIG_TYPE),
        "layers": [
            {
                "mediaType": LAYER_TYPE,
                "digest": f"sha256:{layer['digest']}",
                "size": layer["size"],
            }
            for layer in layers
        ],
        "annotations": settings["labels"],
    }
    written = _write(blobs, manifest, MANIFEST_TYPE)
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX_TYPE,
        "manifests": [written | {"annotations": {REFERENCE: settings["reference"]}}],
    }
    (target / "index.json").write_bytes(serialize(index))
    (target / "oci-layout").write_bytes(serialize({"imageLayoutVersion": "1.0.0"}))
    return str(written["digest"])


def _share(source: Path, target: Path) -> None:
    """Has one file under two names, since layers are large and many images have the same ones."""
    try:
        os.link(source.resolve(), target)
    except OSError:  # on another disk, or where links are not allowed
        shutil.copyfile(source, target)


def _write(blobs: Path, value: object, media_type: str) -> dict[str, Any]:
    content = serialize(value)
    digest = hashlib.sha256(content).hexdigest()
    (blobs / digest).write_bytes(content)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}


def _main() -> None:
    specification, target, digest_file, sbom_file = sys.argv[1:]
    settings = json.loads(Path(specification).read_text())
    layers = [
        {
            **json.loads(Path(layer["descriptor"]).read_text()),
            "name": layer["name"],
            "archive": layer["archive"],
        }
        for layer in settings["layers"]
    ]
    digest = write_layout(settings, layers, Path(target))
    Path(digest_file).write_text(f"{digest}\n")
    parts = [Part(*part) for layer in layers for part in layer["parts"]]
    Path(sbom_file).write_bytes(serialize(document(settings["reference"], digest, parts)))


if __name__ == "__main__":
    _main()
