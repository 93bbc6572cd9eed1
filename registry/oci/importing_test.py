"""An artifact comes out of a layout bit for bit, in whatever form it is there; or nothing does."""

import gzip
import os
import shutil
import subprocess
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from registry.artifact import load, publish, read_descriptor
from registry.errors import PlaceTakenError
from registry.example import example_artifact
from registry.oci.documents import LayoutError
from registry.oci.example_layout import (
    ExampleLayer,
    archive,
    contents,
    make_artifact,
    raw,
    raw_layers,
    tar,
    tar_gzip,
    write_layout,
)
from registry.oci.exporting import export_layout
from registry.oci.importing import import_layout


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return make_artifact(tmp_path / "artifact")


def test_export_is_reversed_bit_for_bit(artifact: Path, tmp_path: Path) -> None:
    export_layout(artifact, tmp_path / "layout")
    described = import_layout(tmp_path / "layout", tmp_path / "new" / "again")
    assert described == (*read_descriptor(artifact)[:1], tmp_path / "new" / "again", described[2])
    assert described.digest == load(artifact).digest
    assert contents(tmp_path / "new" / "again") == contents(artifact)


def files(artifact: Path) -> list[tuple[str, bytes]]:
    return list(contents(artifact).items())


def one_each(
    artifact: Path, form: Callable[[bytes, str | None], ExampleLayer]
) -> list[ExampleLayer]:
    """An archive for each file, as ModelPack's tools make them; that with the weights first."""
    ordered = sorted(files(artifact), key=lambda file: file[0] != "model.safetensors")
    return [form(archive([file]), file[0]) for file in ordered]


FORMS: dict[str, Callable[[Path], list[ExampleLayer]]] = {
    "raw": raw_layers,
    "raw, reversed": lambda artifact: raw_layers(artifact)[::-1],
    "tar": lambda artifact: [tar(archive(files(artifact)))],
    "tar+gzip": lambda artifact: [tar_gzip(archive(files(artifact)))],
    "ustar": lambda artifact: [tar(archive(files(artifact), tarfile.USTAR_FORMAT))],
    "GNU": lambda artifact: [tar(archive(files(artifact), tarfile.GNU_FORMAT))],
    "a tar each": lambda artifact: one_each(artifact, tar),
    "a tar+gzip each": lambda artifact: one_each(artifact, tar_gzip),
    "./": lambda artifact: [
        tar(archive([("./", b""), *((f"./{path}", content) for path, content in files(artifact))]))
    ],
    "directories": lambda artifact: [
        tar(archive([("programs/", b""), ("signatures/", b""), *files(artifact)]))
    ],
    "mixed": lambda artifact: [
        *raw_layers(artifact)[:2],
        tar_gzip(archive(files(artifact)[2:4])),
        tar(archive(files(artifact)[4:])),
    ],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_layers_is_read(artifact: Path, tmp_path: Path, form: str) -> None:
    layout = write_layout(tmp_path / "layout", FORMS[form](artifact))
    import_layout(layout, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(artifact)


@pytest.mark.parametrize("format", ["ustar", "pax", "gnu"])
@pytest.mark.parametrize("prefix", ["", "./"])
def test_archive_of_a_layout_is_read(
    artifact: Path, tmp_path: Path, format: str, prefix: str
) -> None:
    export_layout(artifact, tmp_path / "layout")
    names = [f"{prefix}{name}" for name in ("index.json", "oci-layout", "blobs")]
    subprocess.run(
        ["tar", f"--format={format}", "-cf", tmp_path / "layout.tar", *names],
        cwd=tmp_path / "layout",
        check=True,
    )
    import_layout(tmp_path / "layout.tar", tmp_path / "again")
    assert contents(tmp_path / "again") == contents(artifact)


def test_signatures_may_be_missing_and_files_may_be_equal(tmp_path: Path) -> None:
    same = {"a.txt": b"same", "b.txt": b"same", "empty.txt": b""}
    publish(tmp_path / "artifact", example_artifact(), {"w": np.zeros(0)}, same)
    export_layout(tmp_path / "artifact", tmp_path / "layout")
    import_layout(tmp_path / "layout", tmp_path / "again")
    assert contents(tmp_path / "again") == contents(tmp_path / "artifact")


def peak_bytes(call: Callable[[], object]) -> int:
    """Returns the most memory that Python's allocators gave to a call at once."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_weights_are_never_in_memory(tmp_path: Path) -> None:
    # A descriptor may take 16 MiB, which are read at once.
    weights = np.tile(np.arange(2**20, dtype=np.uint8), 64)
    small, again = tmp_path / "artifact", tmp_path / "again"
    publish(small, example_artifact(), {"w": weights})
    write_layout(tmp_path / "packed", [tar_gzip(archive(files(small)))])
    peaks = [
        peak_bytes(lambda: export_layout(small, tmp_path / "raw")),
        peak_bytes(lambda: import_layout(tmp_path / "raw", again / "raw")),
        peak_bytes(lambda: import_layout(tmp_path / "packed", again / "packed")),
    ]
    assert max(peaks) < weights.nbytes / 2
    assert {read_descriptor(path).digest for path in again.iterdir()} == {load(small).digest}


def test_one_of_several_models_is_chosen(artifact: Path, tmp_path: Path) -> None:
    publish(tmp_path / "other", example_artifact(), {"w": np.zeros(2)})
    others: list[dict[str, object]] = []
    write_layout(
        tmp_path / "layout",
        raw_layers(artifact),
        index=lambda index: others.extend(index["manifests"]),
    )
    write_layout(
        tmp_path / "both",
        raw_layers(tmp_path / "other"),
        index=lambda index: index["manifests"].append(
            others[0] | {"annotations": {"org.opencontainers.image.ref.name": "first"}}
        ),
    )
    for path, content in contents(tmp_path / "layout" / "blobs").items():
        (tmp_path / "both" / "blobs" / path).write_bytes(content)

    expected = {"first": artifact, "1.2.3": tmp_path / "other", str(others[0]["digest"]): artifact}
    for number, (reference, source) in enumerate(expected.items()):
        again = tmp_path / f"again{number}"
        import_layout(tmp_path / "both", again, reference=reference)
        assert contents(again) == contents(source)
    wrong: list[tuple[str | None, str]] = [
        (None, "holds several manifests; give one of its references or digests: '1.2.3', 'first'"),
        ("1.2.4", "holds no manifest called '1.2.4'; give one of"),
    ]
    for asked, message in wrong:
        with pytest.raises(LayoutError, match=message):
            import_layout(tmp_path / "both", tmp_path / "again", reference=asked)


def test_place_that_is_taken_is_kept(artifact: Path, tmp_path: Path) -> None:
    export_layout(artifact, tmp_path / "layout")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    with pytest.raises(PlaceTakenError, match="exists and is not empty"):
        import_layout(tmp_path / "layout", tmp_path / "taken")
    assert contents(tmp_path / "taken") == {"file": b"mine"}


def count_fsync(monkeypatch: pytest.MonkeyPatch, fail_after: int | None) -> list[int]:
    """Counts calls of fsync, of which those after the first `fail_after` fail."""
    calls: list[int] = []
    fsync = os.fsync

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
    layout = write_layout(tmp_path / "layout", [tar_gzip(archive(files(artifact)))])
    with monkeypatch.context() as counting:
        calls = count_fsync(counting, None)
        import_layout(layout, tmp_path / "whole")
        num_calls = len(calls)
    assert num_calls > len(files(artifact))
    for survived in range(num_calls - 1):  # the last call follows the rename
        with monkeypatch.context() as failing:
            count_fsync(failing, survived)
            with pytest.raises(LayoutError, match="cannot import .*No space left on device"):
                import_layout(layout, tmp_path / "new" / "again")
        assert not (tmp_path / "new").exists()


def test_disk_that_is_too_small_is_told_before_anything_is_written(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = write_layout(tmp_path / "layout", raw_layers(artifact))
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=7))
    with pytest.raises(LayoutError, match=r"the artifact takes \d+ bytes; only 7 are free"):
        import_layout(layout, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_one_flipped_bit_of_any_file_is_found(artifact: Path, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    export_layout(artifact, layout)
    for path in contents(layout / "blobs"):
        content = bytearray((layout / "blobs" / path).read_bytes())
        content[len(content) // 2] ^= 1
        (layout / "blobs" / path).write_bytes(content)
        with pytest.raises(LayoutError, match="is corrupt"):
            import_layout(layout, tmp_path / "new" / "again")
        assert not (tmp_path / "new").exists()
        content[len(content) // 2] ^= 1
        (layout / "blobs" / path).write_bytes(content)
    import_layout(layout, tmp_path / "new" / "again")


def test_flipped_bit_of_what_no_digest_covers_changes_no_artifact(
    artifact: Path, tmp_path: Path
) -> None:
    layout, again = tmp_path / "layout", tmp_path / "again"
    export_layout(artifact, layout)
    outcomes = set()
    for name in ("index.json", "oci-layout"):
        original = (layout / name).read_bytes()
        for position in range(len(original)):
            content = bytearray(original)
            content[position] ^= 1 << position % 8
            (layout / name).write_bytes(content)
            try:
                import_layout(layout, again)
            except LayoutError:
                outcomes.add("refused")
                assert not again.exists()
            else:  # it was in the reference, or in a field that says nothing
                outcomes.add("imported")
                assert contents(again) == contents(artifact)
                shutil.rmtree(again)
        (layout / name).write_bytes(original)
    assert outcomes == {"refused", "imported"}


def test_layer_of_a_layout_that_was_compressed_twice_is_no_archive(
    artifact: Path, tmp_path: Path
) -> None:
    packed = gzip.compress(archive(files(artifact)))
    layout = write_layout(tmp_path / "layout", [tar_gzip(packed)])
    with pytest.raises(LayoutError, match="is no tar archive"):
        import_layout(layout, tmp_path / "again")


def test_file_that_is_missing_is_named(artifact: Path, tmp_path: Path) -> None:
    for path in ("README.md", "artifact.pb", "artifact.pb.sha256", "model.safetensors"):
        layers = [layer for layer in raw_layers(artifact) if layer.path != path]
        layout = write_layout(tmp_path / f"without {path}", layers)
        with pytest.raises(LayoutError, match=rf"{path} missing"):
            import_layout(layout, tmp_path / "again")


def test_descriptor_of_another_artifact_is_found(artifact: Path, tmp_path: Path) -> None:
    other = example_artifact()
    other.version = "9.9.9"
    publish(tmp_path / "other", other, {"w": np.zeros(2)})
    foreign = (tmp_path / "other" / "artifact.pb.sha256").read_bytes()
    layers = [layer for layer in raw_layers(artifact) if layer.path != "artifact.pb.sha256"]
    layout = write_layout(tmp_path / "layout", [*layers, raw("artifact.pb.sha256", foreign)])
    with pytest.raises(LayoutError, match=r"layout/artifact\.pb is corrupt: expected SHA-256"):
        import_layout(layout, tmp_path / "again")
    assert not (tmp_path / "again").exists()
