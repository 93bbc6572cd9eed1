"""Ahead-of-time compilation of Triton kernels: outputs, determinism and errors."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import triton

from infra.bazel import triton_compile

KERNELS = """
from typing import NamedTuple

import triton
import triton.language as tl


@triton.jit
def scale(x_ptr, factor, count, BLOCK: tl.constexpr):
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = index < count
    tl.store(x_ptr + index, tl.load(x_ptr + index, mask=mask) * factor, mask=mask)


class Variant(NamedTuple):
    name: str
    kernel: object
    signature: dict
    constexprs: dict
    num_warps: int = 4
    num_stages: int = 2
    options: dict = {}


VARIANTS = tuple(
    Variant(f"scale_{block}", scale, {"x_ptr": "*fp32:16", "factor": "fp32", "count": "i32"},
            {"BLOCK": block})
    for block in (128, 256)
)
"""


def _run(
    source: Path, out: Path, *archs: int, sample: bool = False, **env: str
) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "HOME"} | env
    flags = [flag for arch in archs for flag in ("--arch", str(arch))] + ["--sample"] * sample
    return subprocess.run(
        [sys.executable, triton_compile.__file__, "--src", source, *flags, "--out", out],
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "kernels_under_test.py"
    path.write_text(KERNELS)
    return path


@pytest.fixture(scope="module")
def out(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is made of the source for two architectures."""
    out = tmp_path_factory.mktemp("compiled") / "out"
    done = _run(source, out, 90, 80)
    assert done.returncode == 0, done.stderr
    return out


def test_compiles_each_variant_for_each_architecture(out: Path) -> None:
    found = json.loads((out / "metadata.json").read_text())["cubins"]
    assert [(m["name"], m["arch"]) for m in found] == [
        ("scale_128", 80),
        ("scale_128", 90),
        ("scale_256", 80),
        ("scale_256", 90),
    ]
    assert {path.name for path in out.iterdir()} == {m["file"] for m in found} | {"metadata.json"}
    for metadata in found:
        assert (out / metadata["file"]).read_bytes()[:4] == b"\x7fELF"
        assert metadata["symbol"] == "scale"
        assert metadata["parameters"] == [["x_ptr", "*fp32"], ["factor", "fp32"], ["count", "i32"]]
        assert metadata["constants"] == {"BLOCK": int(metadata["name"].split("_")[1])}
        assert metadata["num_warps"] == 4
        assert metadata["registers"] > 0 and metadata["spill_store_bytes"] == 0


@pytest.mark.parametrize("fusion", [False, True])
def test_compiles_a_sample_with_its_options(fusion: bool, tmp_path: Path) -> None:
    text = KERNELS.replace("* factor,", "* factor + factor,")
    text = text.replace("options: dict = {}", f"options: dict = {{'enable_fp_fusion': {fusion}}}")
    source = tmp_path / "fused.py"
    source.write_text(text + "SAMPLE = VARIANTS[:1]\n")
    assert _run(source, tmp_path / "out", 90, sample=True).returncode == 0
    assert [path.stem for path in tmp_path.glob("out/*.cubin")] == ["scale_128.sm_90"]
    disassembler = triton.knobs.nvidia.nvdisasm.path
    command = [disassembler, "-c", tmp_path / "out" / "scale_128.sm_90.cubin"]
    listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert ("FFMA" in listing) == fusion
    assert ("FMUL" in listing) != fusion


def test_same_input_gives_the_same_bytes(source: Path, out: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    assert _run(source, again, 90, 80).returncode == 0
    assert {path.name for path in again.iterdir()} == {path.name for path in out.iterdir()}
    for path in again.iterdir():
        found = path.read_bytes()
        assert found == (out / path.name).read_bytes()
        for folder in (tmp_path, source.parent, out.parent):
            assert str(folder).encode() not in found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_of_that_name", "ModuleNotFoundError: No module named"),
        ("x = 1", "must define VARIANTS"),
        (KERNELS.replace('f"scale_{block}"', '"scale"'), "names in VARIANTS must be unique"),
        (KERNELS.replace("tl.arange(0, BLOCK)", "tl.arange(0, count)"), "scale_128 for sm_90: "),
    ],
)
def test_bad_source_is_named(text: str, message: str, tmp_path: Path) -> None:
    source, out = tmp_path / "bad.py", tmp_path / "out"
    source.write_text(text)
    done = _run(source, out, 90)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and message in done.stderr
    assert not out.exists()


def test_missing_source_is_named(tmp_path: Path) -> None:
    done = _run(tmp_path / "none.py", tmp_path / "out", 90)
    assert done.returncode == 2
    assert done.stderr == f"error: {tmp_path / 'none.py'}: no such file\n"
