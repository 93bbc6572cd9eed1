"""A layout holds every file of an artifact under its own digest, in the peers' field names."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from registry.artifact import publish, read_descriptor
from registry.errors import ArtifactError, PlaceTakenError
from registry.example import example_artifact
from registry.oci.documents import LayoutError
from registry.oci.example_layout import FILES, SIGNATURE, contents, make_artifact
from registry.oci.exporting import export_layout
from registry.oci.parameters import param_size

TEXT = {"type": "string"}
DIGEST = {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}


def exactly(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    """The JSON schema of an object with these properties and no others."""
    return {
        "type": "object",
        "required": list(required),
        "properties": required | (optional or {}),
        "additionalProperties": False,
    }


# Names as the OCI image specification 1.1 and ModelPack's config-schema.json have them.
BLOB = {"mediaType": TEXT, "digest": DIGEST, "size": {"type": "integer", "minimum": 0}}
TEXTS = {"type": "object", "additionalProperties": TEXT}
INDEX = exactly(
    {
        "schemaVersion": {"const": 2},
        "mediaType": {"const": "application/vnd.oci.image.index.v1+json"},
        "manifests": {
            "type": "array",
            "items": exactly(BLOB, {"artifactType": TEXT, "annotations": TEXTS}),
        },
    }
)
MANIFEST = exactly(
    {
        "schemaVersion": {"const": 2},
        "mediaType": {"const": "application/vnd.oci.image.manifest.v1+json"},
        "artifactType": {"const": "application/vnd.cncf.model.manifest.v1+json"},
        "config": exactly(
            BLOB | {"mediaType": {"const": "application/vnd.cncf.model.config.v1+json"}}
        ),
        "layers": {"type": "array", "minItems": 1, "items": exactly(BLOB | {"annotations": TEXTS})},
        "annotations": TEXTS,
    }
)
CONFIG = exactly(
    {
        "descriptor": exactly(
            {
                "createdAt": {"type": "string", "format": "date-time"},
                "name": {"type": "string", "minLength": 1},
                "version": TEXT,
                "revision": TEXT,
            }
        ),
        "config": exactly(
            {"architecture": TEXT, "format": TEXT, "precision": TEXT},
            {"paramSize": {"type": "string", "pattern": r"^\d+(\.\d)?[QTBMK]$"}},
        ),
        "modelfs": exactly(
            {
                "type": {"const": "layers"},
                "diffIds": {"type": "array", "items": DIGEST, "minItems": 1},
            }
        ),
    }
)


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return make_artifact(tmp_path / "artifact")


def document(layout: Path, digest: str) -> Any:
    return json.loads((layout / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_bytes())


def test_documents_are_of_the_peers_schemas(artifact: Path, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    digest = export_layout(artifact, layout)
    index = json.loads((layout / "index.json").read_bytes())
    manifest = document(layout, digest)
    config = document(layout, manifest["config"]["digest"])
    jsonschema.validate(index, INDEX)
    jsonschema.validate(manifest, MANIFEST)
    jsonschema.validate(config, CONFIG)
    assert json.loads((layout / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    assert index["manifests"][0]["digest"] == digest
    assert index["manifests"][0]["annotations"] == {"org.opencontainers.image.ref.name": "1.2.3"}
    assert config["descriptor"] == {
        "createdAt": "2027-01-15T08:00:42Z",
        "name": "digits",
        "version": "1.2.3",
        "revision": "0123456789abcdef0123456789abcdef01234567",
    }
    assert config["config"]["architecture"] == "mlp"
    assert config["modelfs"]["diffIds"] == [layer["digest"] for layer in manifest["layers"]]


def test_every_blob_is_named_by_its_digest_and_every_file_is_a_blob(
    artifact: Path, tmp_path: Path
) -> None:
    manifest = document(tmp_path / "layout", export_layout(artifact, tmp_path / "layout"))
    blobs = contents(tmp_path / "layout" / "blobs" / "sha256")
    assert all(hashlib.sha256(blob).hexdigest() == name for name, blob in blobs.items())

    layers = {
        layer["annotations"]["org.cncf.model.filepath"]: blobs[layer["digest"][len("sha256:") :]]
        for layer in manifest["layers"]
    }
    assert layers == contents(artifact)
    for layer in manifest["layers"]:
        assert layer["size"] == len(layers[layer["annotations"]["org.opencontainers.image.title"]])
    # The artifact's identity is the digest of a layer.
    assert read_descriptor(artifact).digest in blobs
    # Its layers, the config and the manifest.
    assert len(blobs) == len(layers) + 2


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("artifact.pb", "weight.config"),
        ("artifact.pb.sha256", "weight.config"),
        ("model.safetensors", "weight"),
        ("README.md", "doc"),
        ("programs/model.stablehlo", "code"),
        (SIGNATURE, "doc"),
    ],
)
def test_layers_say_what_they_hold(artifact: Path, tmp_path: Path, path: str, kind: str) -> None:
    manifest = document(tmp_path / "layout", export_layout(artifact, tmp_path / "layout"))
    (layer,) = (
        layer
        for layer in manifest["layers"]
        if layer["annotations"]["org.cncf.model.filepath"] == path
    )
    assert layer["mediaType"] == f"application/vnd.cncf.model.{kind}.v1.raw"


def test_layout_is_the_same_each_time(artifact: Path, tmp_path: Path) -> None:
    digests = {export_layout(artifact, tmp_path / name) for name in ("a", "b")}
    assert len(digests) == 1
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_reference_is_in_the_index_alone(artifact: Path, tmp_path: Path) -> None:
    digest = export_layout(artifact, tmp_path / "a")
    assert export_layout(artifact, tmp_path / "b", reference="hub/digits:1.2.3") == digest
    index = json.loads((tmp_path / "b" / "index.json").read_bytes())
    annotations = index["manifests"][0]["annotations"]
    assert annotations["org.opencontainers.image.ref.name"] == "hub/digits:1.2.3"


@pytest.mark.parametrize("reference", ["", "a b", "../a", "/a", "a//b", "a\n", "é", "x" * 256])
def test_reference_that_is_none_is_refused(artifact: Path, tmp_path: Path, reference: str) -> None:
    with pytest.raises(LayoutError, match=r"reference .* is refused; expected at most 255 letters"):
        export_layout(artifact, tmp_path / "layout", reference=reference)
    assert not (tmp_path / "layout").exists()


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ({"a": np.zeros((40, 50), np.float32)}, {"paramSize": "2K", "precision": "fp32"}),
        ({"a": np.zeros(1234, np.float16)}, {"paramSize": "1.2K", "precision": "fp16"}),
        ({"a": np.zeros(3, np.float64)}, {"precision": "fp64"}),
        (
            {"a": np.zeros(999, np.float32), "b": np.zeros(1, np.float16)},
            {"paramSize": "1K", "precision": "mixed"},
        ),
    ],
)
def test_parameters_are_those_of_the_weights(
    tmp_path: Path, tensors: dict[str, np.ndarray], expected: dict[str, str]
) -> None:
    publish(tmp_path / "artifact", example_artifact(), tensors)
    digest = export_layout(tmp_path / "artifact", tmp_path / "layout")
    manifest = document(tmp_path / "layout", digest)
    config = document(tmp_path / "layout", manifest["config"]["digest"])["config"]
    assert config == {"architecture": "mlp", "format": "safetensors"} | expected


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, ""),
        (49, ""),
        (100, "0.1K"),
        (999_949, "999.9K"),
        (999_950, "1M"),
        (6_700_000_000, "6.7B"),
        (10**12, "1T"),
        (10**15, "1Q"),
        (2 * 10**18, "2000Q"),
    ],
)
def test_number_of_parameters_is_short(count: int, text: str) -> None:
    assert param_size(count) == text


def test_uncommitted_changes_are_told(tmp_path: Path) -> None:
    artifact = example_artifact()
    artifact.training_run.git_dirty = True
    publish(tmp_path / "artifact", artifact, {"a": np.zeros(1)})
    manifest = document(
        tmp_path / "layout", export_layout(tmp_path / "artifact", tmp_path / "layout")
    )
    commit = artifact.training_run.git_commit
    assert manifest["annotations"]["org.opencontainers.image.revision"] == f"{commit}-dirty"


@pytest.mark.parametrize("path", ["model.safetensors", "README.md", "artifact.pb"])
def test_corrupt_artifact_is_not_exported(artifact: Path, tmp_path: Path, path: str) -> None:
    content = bytearray((artifact / path).read_bytes())
    content[-1] ^= 1
    (artifact / path).write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"{path} is corrupt: expected SHA-256"):
        export_layout(artifact, tmp_path / "new" / "layout")
    assert not (tmp_path / "new").exists()


def test_place_that_is_taken_is_kept(artifact: Path, tmp_path: Path) -> None:
    export_layout(artifact, tmp_path / "layout")
    before = contents(tmp_path / "layout")
    with pytest.raises(PlaceTakenError, match="exists and is not empty"):
        export_layout(artifact, tmp_path / "layout", reference="other")
    assert contents(tmp_path / "layout") == before


def test_name_that_no_directory_can_have_is_refused(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(PlaceTakenError, match=r"cannot export to .*File name too long"):
        export_layout(artifact, tmp_path / "new" / ("x" * 300))
    assert not (tmp_path / "new").exists()


def count_fsync(monkeypatch: pytest.MonkeyPatch, fail_after: int | None) -> list[int]:
    """Counts calls of fsync, of which those after the first `fail_after` fail."""
    calls: list[int] = []
    fsync: Callable[[int], None] = os.fsync

    def counted(descriptor: int) -> None:
        calls.append(descriptor)
        if fail_after is not None and len(calls) > fail_after:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", counted)
    return calls


def test_disk_that_fails_leaves_nothing(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as counting:
        calls = count_fsync(counting, None)
        export_layout(artifact, tmp_path / "whole")
        num_calls = len(calls)
    # At least each file; the last call follows the rename.
    assert num_calls > len(FILES)
    for survived in range(num_calls - 1):
        with monkeypatch.context() as failing:
            count_fsync(failing, survived)
            with pytest.raises(LayoutError, match="cannot export .*No space left on device"):
                export_layout(artifact, tmp_path / "new" / "layout")
        assert not (tmp_path / "new").exists()
