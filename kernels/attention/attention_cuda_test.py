"""The CUDA path as far as it goes without a GPU: cubins, their metadata and the launcher.

A fake driver, compiled here, records what the launcher asks for.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kernels.attention import cubin_loader, triton_kernels
from kernels.attention.contract import Sizes

ARCHS = (80, 90, 100)

SIZES = Sizes(batch=2, seq_q=200, seq_k=300, num_heads=4, num_kv_heads=2, head_dim=40)
FORWARD = ("q", "k", "v", "out", "lse")
BACKWARD = (*FORWARD, "grad_out", "grad_q", "grad_k", "grad_v", "delta")
# Distinct and aligned to 16 bytes; nothing is read from them.
ADDRESSES = {name: 0x10000 * (i + 1) for i, name in enumerate(BACKWARD)}

# Registers the cubins and runs one call, given as JSON, of the native module.
CALL = """
import json, sys
from kernels.attention import _native, cubin_loader
call = json.loads(sys.argv[1])
cubin_loader.ensure_registered()
for device in call.pop("devices"):
    getattr(_native, call["function"])(**call["arguments"], device=device, stream=0x777)
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A driver that records."""
    library = tmp_path_factory.mktemp("driver") / "libfake_cuda.so"
    source = Path(__file__).with_name("fake_cuda.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


@pytest.fixture(scope="module")
def by_name() -> dict[tuple[str, int], dict[str, Any]]:
    """The metadata of each cubin by (name, arch)."""
    return {(m["name"], m["arch"]): m for m in cubin_loader.metadata(cubin_loader.directory())}


def _call(
    function: str,
    tmp_path: Path,
    driver: Path | str,
    *,
    names: tuple[str, ...],
    dtype: str = "bfloat16",
    sizes: Sizes = SIZES,
    devices: tuple[int, ...] = (0,),
    addresses: dict[str, int] = ADDRESSES,
    **env: str,
) -> tuple[list[str], str]:
    """Runs one native call against the fake driver; returns its log and the error output."""
    arguments = {"dtype": dtype, "sizes": sizes, "causal": True, "softmax_scale": 0.25}
    arguments["tensors"] = [addresses[name] for name in names]
    request = {"function": function, "arguments": arguments, "devices": devices}
    log = tmp_path / "log"
    log.write_text("")
    defaults = {
        "HPC_LIBCUDA": str(driver),
        "FAKE_CUDA_LOG": str(log),
        "FAKE_CUDA_CAPABILITY": "90",
        "FAKE_CUDA_PARAMETERS": _parameter_codes(),
    }
    done = subprocess.run(
        [sys.executable, "-c", CALL, json.dumps(request)],
        env={**os.environ, **defaults, **env},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return log.read_text().splitlines(), done.stderr


def _parameter_codes() -> str:
    """What the fake driver has to know of each kernel: from the kernels, not from the metadata."""
    codes = {"i32": "i", "fp32": "f"}
    kernels = {v.kernel.__name__: v.signature for v in triton_kernels.VARIANTS}
    return "".join(
        f"{name}={''.join(codes.get(kind.split(':')[0], 'p') for kind in signature.values())}pp;"
        for name, signature in kernels.items()
    )


def _launches(log: list[str]) -> list[dict[str, str]]:
    """The launches in a log, as {field: text}."""
    lines = (line.split()[1:] for line in log if line.startswith("launch"))
    return [dict(field.split("=", 1) for field in line) for line in lines]


def _expected_arguments(variant: triton_kernels.Variant) -> list[str]:
    """What the launcher must pass for SIZES: by the kernel's own parameters."""
    values = {f"{name}_ptr": str(address) for name, address in ADDRESSES.items()}
    values |= {name: str(size) for name, size in SIZES._asdict().items()}
    values |= {"causal": "1", "softmax_scale": "0.25"}
    return [values[name] for name in variant.signature] + ["0", "0"]


def test_every_variant_is_compiled_for_every_architecture(
    by_name: dict[tuple[str, int], dict[str, Any]],
) -> None:
    names = {variant.name for variant in triton_kernels.VARIANTS}
    assert {(name, arch) for name in names for arch in ARCHS} <= by_name.keys()


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("variant", triton_kernels.VARIANTS, ids=lambda v: v.name)
def test_metadata_agrees_with_the_kernel(
    variant: triton_kernels.Variant, arch: int, by_name: dict[tuple[str, int], dict[str, Any]]
) -> None:
    metadata = by_name[variant.name, arch]
    wanted = [[name, kind.split(":")[0]] for name, kind in variant.signature.items()]
    assert metadata["parameters"] == wanted
    assert metadata["constants"] == variant.constexprs
    assert metadata["num_warps"] == variant.num_warps
    assert 0 < metadata["registers"] <= 255
    image = (cubin_loader.directory() / metadata["file"]).read_bytes()
    assert image[:4] == b"\x7fELF"
    # The name of the entry point stands in the ELF's symbol table.
    assert f".text.{metadata['symbol']}\0".encode() in image


def test_forward_launch(tmp_path: Path, driver: Path) -> None:
    log, stderr = _call("forward_cuda", tmp_path, driver, names=FORWARD)
    (launch,) = _launches(log)
    variant = _variant("attention_fwd_bfloat16_d64")
    blocks = -(-SIZES.seq_q // variant.constexprs["BLOCK_Q"])
    assert stderr == ""
    assert launch["function"] == "attention_fwd"
    assert launch["grid"] == f"{blocks * SIZES.num_heads * SIZES.batch},1,1"
    assert launch["block"] == f"{32 * variant.num_warps},1,1"
    assert launch["stream"] == "0x777"
    assert launch["arguments"].rstrip(",").split(",") == _expected_arguments(variant)


def test_backward_launches_in_order(tmp_path: Path, driver: Path) -> None:
    log, stderr = _call("backward_cuda", tmp_path, driver, names=BACKWARD)
    launches = _launches(log)
    assert stderr == ""
    expected = (
        ("attention_bwd_delta", "BLOCK_Q", SIZES.seq_q, SIZES.num_heads),
        ("attention_bwd_kv", "BLOCK_K", SIZES.seq_k, SIZES.num_kv_heads),
        ("attention_bwd_q", "BLOCK_Q", SIZES.seq_q, SIZES.num_heads),
    )
    for launch, (kernel, block, seq_len, num_heads) in zip(launches, expected, strict=True):
        variant = _variant(f"{kernel}_bfloat16_d64")
        blocks = -(-seq_len // variant.constexprs[block])
        assert launch["function"] == kernel
        assert launch["grid"] == f"{blocks * num_heads * SIZES.batch},1,1"
        assert launch["arguments"].rstrip(",").split(",") == _expected_arguments(variant)


def test_shared_memory_is_that_of_the_cubin(
    tmp_path: Path, driver: Path, by_name: dict[tuple[str, int], dict[str, Any]]
) -> None:
    sizes = SIZES._replace(head_dim=128)
    log, _ = _call("forward_cuda", tmp_path, driver, names=FORWARD, sizes=sizes)
    shared = by_name["attention_fwd_bfloat16_d128", 90]["shared_bytes"]
    assert shared > 48 * 1024
    assert f"attribute function=attention_fwd 8={shared}" in log
    assert _launches(log)[0]["shared"] == str(shared)


def test_each_device_loads_a_kernel_once(tmp_path: Path, driver: Path) -> None:
    log, _ = _call("forward_cuda", tmp_path, driver, names=FORWARD, devices=(0, 1, 0, 1))
    assert log.count("load elf=ELF") == 2
    assert [line for line in log if line.startswith("retain")] == [
        "retain device=0",
        "retain device=1",
    ]
    assert len(_launches(log)) == 4
    pushes = [line for line in log if line.startswith("push")]
    assert len(pushes) == log.count("pop") == 6
    assert pushes[-2:] == ["push context=0x1000", "push context=0x1001"]


def test_nothing_is_launched_for_an_empty_batch(tmp_path: Path, driver: Path) -> None:
    log, stderr = _call(
        "forward_cuda", tmp_path, driver, names=FORWARD, sizes=SIZES._replace(batch=0)
    )
    assert stderr == "" and not _launches(log)


@pytest.mark.parametrize(
    ("capability", "runs"),
    [(80, 1), (86, 1), (89, 1), (90, 1), (100, 1), (75, 0), (103, 0)],
)
def test_cubin_is_chosen_by_compute_capability(
    capability: int, runs: int, tmp_path: Path, driver: Path
) -> None:
    log, stderr = _call(
        "forward_cuda", tmp_path, driver, names=FORWARD, FAKE_CUDA_CAPABILITY=str(capability)
    )
    assert len(_launches(log)) == runs
    if not runs:
        wanted = f"not compiled for this GPU, sm_{capability}; it is for sm_80, sm_90, sm_100"
        assert wanted in stderr


def test_no_driver_is_a_clean_error(tmp_path: Path) -> None:
    _, stderr = _call("forward_cuda", tmp_path, "/nonexistent/libcuda.so", names=FORWARD)
    assert "CudaError: no NVIDIA driver: /nonexistent/libcuda.so" in stderr


@pytest.mark.parametrize("function", ["cuInit", "cuModuleLoadData", "cuLaunchKernel"])
def test_failures_of_the_driver_are_named(function: str, tmp_path: Path, driver: Path) -> None:
    _, stderr = _call("forward_cuda", tmp_path, driver, names=FORWARD, FAKE_CUDA_FAIL=function)
    assert "CudaError: " in stderr
    assert "no kernel image is available (CUDA error 209)" in stderr


@pytest.mark.parametrize(
    ("dtype", "head_dim", "message"),
    [
        ("float64", 64, "takes float16, bfloat16 or float32"),
        ("float32", 136, "head_dim up to 128 that is a multiple of 8, got 136"),
        ("float32", 20, "head_dim up to 128 that is a multiple of 8, got 20"),
    ],
)
def test_unsupported_problems_are_named(
    dtype: str, head_dim: int, message: str, tmp_path: Path, driver: Path
) -> None:
    sizes = SIZES._replace(head_dim=head_dim)
    log, stderr = _call("forward_cuda", tmp_path, driver, names=FORWARD, dtype=dtype, sizes=sizes)
    assert "ValueError: attention on CUDA" in stderr and message in stderr
    assert not _launches(log)


def test_misaligned_pointer_is_named(tmp_path: Path, driver: Path) -> None:
    addresses = {**ADDRESSES, "k": ADDRESSES["k"] + 2}
    log, stderr = _call("forward_cuda", tmp_path, driver, names=FORWARD, addresses=addresses)
    assert "k_ptr must be aligned to 16 bytes" in stderr
    assert not _launches(log)


def _variant(name: str) -> triton_kernels.Variant:
    return next(variant for variant in triton_kernels.VARIANTS if variant.name == name)
