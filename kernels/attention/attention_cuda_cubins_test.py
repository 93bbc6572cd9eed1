"""The Hopper kernels as compiled: their metadata, registers and spills.

What they compute is tested by sm90/sm90_test.cc and sm90/keys_test.cc on an emulated GPU, and on a
real one by attention_cuda_gpu_test.py.
"""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import triton

from kernels import cubin_loader
from kernels.testing import cubins

FORMS = [
    f"{dtype}_d{head_dim}{windowed}{alibi}"
    for dtype in (["bfloat16"] if cubins.is_sample() else ["float16", "bfloat16"])
    for head_dim in (64, 128)
    for windowed in ("", "_windowed")
    for alibi in ("", "_alibi")
]

FORWARD = [f"attention_sm90_fwd_{form}" for form in FORMS]
KEYS = [f"attention_sm90_bwd_kv_{form}" for form in FORMS]
NAMES = FORWARD + KEYS

# Of a parameter struct in sm90/config.h and sm90/keys_config.h, besides tensor maps of 128 bytes:
# pointers, two of them or three; a float or two and an int; four sizes; the order of tiles.
FORWARD_BYTES = 4 * 128 + 2 * 8 + 2 * 4 + 4 * 4 + 6 * 4
KEYS_BYTES = 6 * 128 + 3 * 8 + 3 * 4 + 4 * 4 + 6 * 4
ALIGNMENT = 64

# What ptxas gives every thread at the start: an even share of a multiprocessor's 65536 registers,
# in steps of eight. The kernels themselves hand them from the producer to the consumers.
REGISTERS = {12: 168, 16: 128}

# What a thread block of an H100 or H200 may use.
MAX_SHARED_BYTES = 227 * 1024


@pytest.fixture(scope="module")
def directory() -> Path:
    """Where the Hopper kernels were compiled to."""
    return cubin_loader.directory("kernels.attention", "cuda_cubins")


@pytest.fixture(scope="module")
def by_name(directory: Path) -> dict[str, dict[str, Any]]:
    """The metadata of each kernel."""
    return {kernel["name"]: kernel for kernel in cubin_loader.metadata(directory)}


@pytest.fixture(scope="module")
def sass(directory: Path) -> dict[str, list[str]]:
    """The instructions of each kernel, by the disassembler that comes with Triton."""
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    (cubin,) = directory.glob("*.cubin")
    done = subprocess.run([tool, "-sass", cubin], capture_output=True, text=True, check=True)
    _, *functions = re.split(r"Function : ", done.stdout)
    instruction = re.compile(r"/\*[0-9a-f]{4,}\*/ +(.*?) *;")
    return {text.split()[0]: instruction.findall(text) for text in functions}


def test_every_kernel_is_compiled(by_name: dict[str, dict[str, Any]]) -> None:
    assert by_name.keys() >= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_spilled(name: str, by_name: dict[str, dict[str, Any]]) -> None:
    kernel = by_name[name]
    assert kernel["spill_store_bytes"] == kernel["spill_load_bytes"] == 0
    assert kernel["registers"] == REGISTERS[kernel["num_warps"]]


@pytest.mark.parametrize("name", NAMES)
def test_launch_is_described(
    name: str, by_name: dict[str, dict[str, Any]], directory: Path
) -> None:
    kernel = by_name[name]
    assert kernel["arch"] == 90 and kernel["arch_specific"]
    size = FORWARD_BYTES if name in FORWARD else KEYS_BYTES
    assert kernel["parameters"] == [["params", f"struct:{-(-size // ALIGNMENT) * ALIGNMENT}"]]
    assert kernel["num_scratch_parameters"] == 0
    # One warpgroup loads, each other one has 64 queries, or keys.
    own = "BLOCK_Q" if name in FORWARD else "BLOCK_K"
    assert kernel["constants"][own] == 64 * (kernel["num_warps"] // 4 - 1)
    assert 48 * 1024 < kernel["shared_bytes"] <= MAX_SHARED_BYTES
    image = (directory / kernel["file"]).read_bytes()
    assert image[:4] == b"\x7fELF"
    assert f".text.{kernel['symbol']}\0".encode() in image


@pytest.mark.parametrize("name", FORWARD)
def test_softmax_overlaps_products(
    name: str, by_name: dict[str, dict[str, Any]], sass: dict[str, list[str]]
) -> None:
    # In the loop, scores are waited for, then exponentials are computed (a thread has two rows and
    # every fourth pair of keys), and only then the other product is waited for.
    waits = [i for i, text in enumerate(sass[name]) if text.startswith("WARPGROUP.DEPBAR")]
    (scores,) = [i for i in waits if sass[name][i].endswith("0x1")]
    outputs = min(i for i in waits if i > scores)
    between = sass[name][scores:outputs]
    exponentials = sum("MUFU.EX2" in text for text in between)
    assert exponentials >= by_name[name]["constants"]["BLOCK_K"] // 2
    assert not any("HGMMA" in text for text in between)
