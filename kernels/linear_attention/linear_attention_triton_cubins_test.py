"""The CUDA path as far as it goes without a GPU: cubins, their metadata and the launches.

A fake driver, compiled here, records what the launcher asks for. What every operation shares, such
as errors of the driver, is tested with attention.
"""

from pathlib import Path
from typing import Any

import pytest

from kernels.linear_attention import contract, triton_kernels
from kernels.linear_attention.contract import Options, Sizes
from kernels.testing import cubins, fake_driver

ARCHS = cubins.archs()
COMPILED = cubins.compiled(triton_kernels)

# Spilled bytes that a variant may have, by the width of its elements: more would be a regression.
# Three TF32 products take more registers than there are, most of all on sm_80.
MAX_SPILL_BYTES = {2: 256, 4: 4096}

SIZES = Sizes(batch=2, seq_len=200, num_heads=4, num_kv_heads=2, key_dim=40, value_dim=80)
OPTIONS = Options(causal=True, feature_map=2, normalize=True, eps=0.25, scale=0.5)
FORWARD = ("q", "k", "v", "decay", "initial_kv", "initial_k_sum", "out", "factor", "final_kv")
FORWARD = (*FORWARD, "final_k_sum", "workspace")
BACKWARD = (*FORWARD[:8], "grad_out", "grad_final_kv", "grad_final_k_sum", "grad_q", "grad_k")
BACKWARD = (*BACKWARD, "grad_v", "grad_decay", "grad_initial_kv", "grad_initial_k_sum", "workspace")
# Distinct and aligned to 16 bytes; nothing is read from them. The workspace comes last: it is long.
NAMES = tuple(dict.fromkeys((*FORWARD[:-1], *BACKWARD)))
ADDRESSES = {name: 0x10000 * (i + 1) for i, name in enumerate(NAMES)}

driver = fake_driver.fixture()


def _call(
    function: str,
    tmp_path: Path,
    driver: Path,
    *,
    names: tuple[str, ...],
    dtype: str = "bfloat16",
    sizes: Sizes = SIZES,
    absent: tuple[str, ...] = (),
) -> tuple[list[dict[str, str]], str]:
    """Runs one native call against the fake driver; returns its launches and the error output."""
    arguments: dict[str, Any] = {"dtype": dtype, "sizes": sizes, "options": OPTIONS}
    arguments["tensors"] = [0 if name in absent else ADDRESSES[name] for name in names]
    calls = [(function, arguments)]
    log, errors = fake_driver.call(triton_kernels, calls, driver=driver, log=tmp_path / "log")
    return fake_driver.launches(log), errors


def _variant(name: str) -> triton_kernels.Variant:
    return next(v for v in triton_kernels.VARIANTS if v.name == name)


def _workspace(sizes: Sizes, width: int) -> dict[str, int]:
    """Where the parts of the workspace begin, by contract.workspace_bytes."""
    slots = sizes.batch * sizes.num_heads * sizes.num_chunks
    parts = {"states": sizes.key_dim * sizes.value_dim * width, "k_sums": sizes.key_dim * 4}
    parts |= {f"grad_{name}": size for name, size in parts.items()}
    parts |= {"grad_sums": contract.CHUNK * 4, "decay_parts": 8}
    begin, found = ADDRESSES["workspace"], {}
    for name, size in parts.items():
        found[name] = begin
        begin += slots * size
    dtype = "float32" if width == 4 else "bfloat16"
    total = contract.workspace_bytes("triton", dtype, sizes, backward=True)
    assert begin == ADDRESSES["workspace"] + total
    return found


def _expected_arguments(
    variant: triton_kernels.Variant, absent: tuple[str, ...] = (), sizes: Sizes = SIZES
) -> list[str]:
    """What the launcher must pass: by the kernel's own parameters."""
    addresses = {**ADDRESSES, **dict.fromkeys(absent, 0), **_workspace(sizes, 2)}
    values = {f"{name}_ptr": str(address) for name, address in addresses.items()}
    values |= {name: str(size) for name, size in sizes._asdict().items()}
    values |= {"causal": "1", "feature_map": "2", "normalize": "1", "eps": "0.25", "scale": "0.5"}
    values["num_parts"] = str(2 * sizes.num_chunks)
    flags = {"has_decay": "decay", "has_initial": "initial_kv", "has_final": "final_kv"}
    flags |= {"has_grad_final": "grad_final_kv", "wants_decay": "grad_decay"}
    flags |= {"wants_initial": "grad_initial_kv"}
    values |= {flag: str(int(addresses[name] != 0)) for flag, name in flags.items()}
    return [values[name] for name in variant.signature] + ["0", "0"]


def _check(
    launches: list[dict[str, str]],
    expected: list[tuple[str, int, bool]],
    absent: tuple[str, ...] = (),
) -> None:
    """Compares launches with (kernel, programs, whether they split the value channels)."""
    assert [launch["function"] for launch in launches] == [kernel for kernel, _, _ in expected]
    for launch, (kernel, programs, splits) in zip(launches, expected, strict=True):
        is_small = kernel == "linear_attention_bwd_decay"
        variant = _variant(kernel if is_small else f"{kernel}_bfloat16_d128")
        blocks = -(-SIZES.value_dim // variant.constexprs["BLOCK_V"]) if splits else 1
        assert launch["grid"] == f"{programs * blocks},1,1"
        assert launch["block"] == f"{32 * variant.num_warps},1,1"
        assert launch["stream"] == "0x777"
        wanted = _expected_arguments(variant, absent)
        assert launch["arguments"].rstrip(",").split(",") == wanted, kernel


def test_every_variant_is_compiled_for_every_architecture() -> None:
    names = {variant.name for variant in COMPILED}
    found = cubins.by_name(triton_kernels).keys()
    assert {(name, arch) for name in names for arch in ARCHS} <= found


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("variant", COMPILED, ids=lambda v: v.name)
def test_metadata_agrees_with_the_kernel(variant: triton_kernels.Variant, arch: int) -> None:
    metadata = cubins.agreeing(triton_kernels, variant, arch)
    assert metadata["spill_store_bytes"] <= MAX_SPILL_BYTES[4 if "float32" in variant.name else 2]


def test_chunks_are_those_of_the_contract() -> None:
    assert {v.constexprs["CHUNK"] for v in triton_kernels.VARIANTS} == {contract.CHUNK}


def test_forward_launches(tmp_path: Path, driver: Path) -> None:
    launches, stderr = _call("forward_triton", tmp_path, driver, names=FORWARD)
    assert stderr == ""
    rows = SIZES.batch * SIZES.num_heads
    _check(
        launches,
        [
            ("linear_attention_states", rows, True),
            ("linear_attention_fwd", rows * SIZES.num_chunks, True),
        ],
    )


def test_backward_launches_in_order(tmp_path: Path, driver: Path) -> None:
    launches, stderr = _call("backward_triton", tmp_path, driver, names=BACKWARD)
    assert stderr == ""
    rows, kv_rows = SIZES.batch * SIZES.num_heads, SIZES.batch * SIZES.num_kv_heads
    chunks = SIZES.num_chunks
    _check(
        launches,
        [
            ("linear_attention_states", rows, True),
            ("linear_attention_bwd_sums", rows * chunks, False),
            ("linear_attention_bwd_states", rows, True),
            ("linear_attention_bwd_v", kv_rows * chunks, True),
            ("linear_attention_bwd_k", kv_rows * chunks, False),
            ("linear_attention_bwd_q", rows * chunks, False),
            ("linear_attention_bwd_decay", rows, False),
        ],
        # The backward pass walks the states again, but nobody wants the last one.
        absent=("final_kv", "final_k_sum"),
    )


def test_what_is_not_given_is_null(tmp_path: Path, driver: Path) -> None:
    absent = tuple(n for n in ADDRESSES if "decay" in n or "initial" in n or "final" in n)
    launches, stderr = _call("backward_triton", tmp_path, driver, names=BACKWARD, absent=absent)
    assert stderr == ""
    rows, kv_rows = SIZES.batch * SIZES.num_heads, SIZES.batch * SIZES.num_kv_heads
    chunks = SIZES.num_chunks
    _check(
        launches,
        [
            ("linear_attention_states", rows, True),
            ("linear_attention_bwd_sums", rows * chunks, False),
            ("linear_attention_bwd_states", rows, True),
            ("linear_attention_bwd_v", kv_rows * chunks, True),
            ("linear_attention_bwd_k", kv_rows * chunks, False),
            ("linear_attention_bwd_q", rows * chunks, False),
        ],
        absent,
    )


def test_nothing_is_launched_for_an_empty_batch(tmp_path: Path, driver: Path) -> None:
    sizes = SIZES._replace(batch=0)
    launches, stderr = _call("forward_triton", tmp_path, driver, names=FORWARD, sizes=sizes)
    assert stderr == ""
    assert not launches


@pytest.mark.parametrize(
    ("sizes", "dtype", "message"),
    [
        (SIZES, "float64", "takes float16, bfloat16 or float32"),
        (SIZES._replace(key_dim=136), "float32", "up to 128 that is a multiple of 8, got 136"),
        (SIZES._replace(value_dim=12), "float32", "up to 128 that is a multiple of 8, got 12"),
        (SIZES._replace(seq_len=2**30), "float32", "a size is too large, 1073741824"),
        (SIZES._replace(num_kv_heads=3), "float32", "multiple of num_kv_heads, got 4"),
    ],
)
def test_unsupported_problems_are_named(
    sizes: Sizes, dtype: str, message: str, tmp_path: Path, driver: Path
) -> None:
    _, stderr = _call("forward_triton", tmp_path, driver, names=FORWARD, dtype=dtype, sizes=sizes)
    assert message in stderr
