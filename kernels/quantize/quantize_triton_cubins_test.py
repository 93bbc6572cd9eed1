"""The CUDA path as far as it goes without a GPU: cubins, their metadata and the launches.

A fake driver, compiled here, records what the launcher asks for. What every operation shares, such
as errors of the driver, is tested with attention.
"""

from collections.abc import Mapping
from pathlib import Path

import pytest

from kernels.quantize import contract, triton_codes, triton_kernels, triton_tiles
from kernels.quantize.contract import Codec, Layout
from kernels.testing import cubins, fake_driver

ARCHS = cubins.archs()
COMPILED = cubins.compiled(triton_kernels)

# Spilled bytes of a thread that a variant may have: more would be a regression.
MAX_SPILL_BYTES = 8

# With 128 registers two blocks of 256 threads are on a multiprocessor at once, with 80 three, which
# keep 48 KiB of float32 on their way; on sm_80, which is slower, two do.
MAX_REGISTERS = {"nearest": {80: 128, 90: 80, 100: 80}, "stochastic": {80: 128, 90: 128, 100: 128}}

# The arrays of each function, in the order of its struct in problem.h.
TENSORS = {
    "quantize": ("noise", "x", "residual_in", "residual_out", "payload"),
    "dequantize": ("payload", "out"),
    "reduce": ("payloads", "out"),
    "reduce_quantize": ("noise", "payloads", "residual_in", "residual_out", "payload"),
}
# Distinct and aligned to 16 bytes; nothing is read from them.
NAMES = tuple(dict.fromkeys(name for names in TENSORS.values() for name in names))
ADDRESSES = {name: 0x10000 * (i + 1) for i, name in enumerate(NAMES)}

CODEC = contract.codec("float8_e5m2", block_size=512, rounding="stochastic")
MULTIPLIER = 0.25

driver = fake_driver.fixture()


def _call(
    function: str,
    tmp_path: Path,
    driver: Path,
    *,
    layout: Layout,
    codec: Codec = CODEC,
    dtype: str = "bfloat16",
    absent: tuple[str, ...] = (),
    shift: int = 0,
) -> tuple[list[dict[str, str]], str]:
    """Runs one native call against the fake driver; returns its launches and the error output."""
    tensors = [0 if name in absent else ADDRESSES[name] + shift for name in TENSORS[function]]
    arguments = {"dtype": dtype, "layout": layout, "codec": codec, "multiplier": MULTIPLIER}
    calls = [(f"{function}_triton", {**arguments, "tensors": tensors})]
    log, errors = fake_driver.call(triton_kernels, calls, driver=driver, log=tmp_path / "log")
    return fake_driver.launches(log), errors


def _variant(name: str) -> triton_kernels.Variant:
    return next(v for v in triton_kernels.VARIANTS if v.name == name)


def _check(
    launches: list[dict[str, str]],
    name: str,
    values: Mapping[str, float],
    *,
    programs: int,
    codec: Codec = CODEC,
    absent: tuple[str, ...] = (),
) -> None:
    """Compares the only launch with what the variant's own parameters must be."""
    variant = _variant(name)
    addresses = {**ADDRESSES, **dict.fromkeys(absent, 0)}
    known: dict[str, float] = {f"{tensor}_ptr": address for tensor, address in addresses.items()}
    known |= {"format": codec.format, "has_residual": int(addresses["residual_in"] != 0)}
    known |= {"log2_block": codec.block_size.bit_length() - 1, **values}
    wanted = [f"{known[n]:g}" if n == "multiplier" else str(known[n]) for n in variant.signature]
    (launch,) = launches
    assert launch["function"] == variant.kernel.__name__
    assert launch["grid"] == f"{programs},1,1"
    assert launch["block"] == f"{32 * variant.num_warps},1,1"
    assert launch["stream"] == "0x777"
    assert launch["arguments"].rstrip(",").split(",") == [*wanted, "0", "0"]


def test_every_variant_is_compiled_for_every_architecture() -> None:
    names = {variant.name for variant in COMPILED}
    found = cubins.by_name(triton_kernels).keys()
    assert {(name, arch) for name in names for arch in ARCHS} <= found


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("variant", COMPILED, ids=lambda v: v.name)
def test_metadata_agrees_with_the_kernel(variant: triton_kernels.Variant, arch: int) -> None:
    metadata = cubins.agreeing(triton_kernels, variant, arch)
    assert metadata["spill_store_bytes"] + metadata["spill_load_bytes"] <= MAX_SPILL_BYTES
    rounding = "stochastic" if variant.name.endswith("stochastic") else "nearest"
    assert metadata["registers"] <= MAX_REGISTERS[rounding][arch]


def test_there_is_a_variant_for_every_codec_and_dtype() -> None:
    names = {variant.name for variant in triton_kernels.VARIANTS}
    dtypes = ("float16", "bfloat16", "float32")
    quantizers = [*(f"quantize_{dtype}" for dtype in dtypes), "reduce_quantize"]
    assert names == {f"dequantize_{dtype}" for dtype in dtypes} | {
        f"{quantizer}_b{block}_{rounding}"
        for quantizer in quantizers
        for block in contract.BLOCK_SIZES
        for rounding in contract.ROUNDINGS
    }


def test_constants_are_those_of_the_contract() -> None:
    assert triton_kernels.GROUP.value == min(contract.BLOCK_SIZES)
    assert triton_tiles.TILE.value % max(contract.BLOCK_SIZES) == 0
    assert contract.FORMAT_NAMES[triton_codes.INT8.value] == "int8"
    assert contract.FORMAT_NAMES[triton_codes.E4M3.value] == "float8_e4m3fn"


def test_quantize_launches_a_program_for_each_tile_of_each_chunk(
    tmp_path: Path, driver: Path
) -> None:
    layout = Layout(size=20000, num_chunks=3, chunk_size=8193)
    launches, stderr = _call("quantize", tmp_path, driver, layout=layout)
    assert stderr == ""
    payload_bytes = CODEC.payload_bytes(8193)
    sizes = {"size": 20000, "chunk_size": 8193, "payload_bytes": payload_bytes}
    _check(launches, "quantize_bfloat16_b512_stochastic", sizes, programs=9)


def test_what_is_not_given_is_null(tmp_path: Path, driver: Path) -> None:
    codec = contract.codec("int8", block_size=64)
    absent = ("noise", "residual_in", "residual_out")
    layout = Layout(size=64, num_chunks=1, chunk_size=64)
    launches, stderr = _call(
        "quantize", tmp_path, driver, layout=layout, codec=codec, dtype="float32", absent=absent
    )
    assert stderr == ""
    sizes = {"size": 64, "chunk_size": 64, "payload_bytes": 80}
    name = "quantize_float32_b64_nearest"
    _check(launches, name, sizes, programs=1, codec=codec, absent=absent)


def test_dequantize_gives_each_chunk_a_sum_of_one(tmp_path: Path, driver: Path) -> None:
    layout = Layout(size=20000, num_chunks=5, chunk_size=4096)
    launches, stderr = _call("dequantize", tmp_path, driver, layout=layout, dtype="float16")
    assert stderr == ""
    sizes = {"size": 20000, "chunk_size": 4096, "payload_bytes": CODEC.payload_bytes(4096)}
    addresses = {"payloads_ptr": ADDRESSES["payload"], "num_terms": 1, "multiplier": MULTIPLIER}
    _check(launches, "dequantize_float16", sizes | addresses, programs=5)


def test_reduce_is_one_chunk_of_many_terms(tmp_path: Path, driver: Path) -> None:
    layout = Layout(size=9000, num_chunks=7, chunk_size=9000)
    launches, stderr = _call("reduce", tmp_path, driver, layout=layout, dtype="float32")
    assert stderr == ""
    sizes = {"size": 9000, "chunk_size": 9000, "payload_bytes": CODEC.payload_bytes(9000)}
    rest = {"num_terms": 7, "multiplier": MULTIPLIER}
    _check(launches, "dequantize_float32", sizes | rest, programs=3)


def test_reduce_quantize_launches_once(tmp_path: Path, driver: Path) -> None:
    layout = Layout(size=9000, num_chunks=7, chunk_size=9000)
    launches, stderr = _call("reduce_quantize", tmp_path, driver, layout=layout, dtype="float32")
    assert stderr == ""
    sizes = {"size": 9000, "payload_bytes": CODEC.payload_bytes(9000)}
    rest = {"num_terms": 7, "multiplier": MULTIPLIER}
    _check(launches, "reduce_quantize_b512_stochastic", sizes | rest, programs=3)


def test_sizes_have_64_bits(tmp_path: Path, driver: Path) -> None:
    size = 3 * 2**32 + 5
    layout = Layout(size=size, num_chunks=1, chunk_size=size)
    launches, stderr = _call("quantize", tmp_path, driver, layout=layout)
    assert stderr == ""
    sizes = {"size": size, "chunk_size": size, "payload_bytes": CODEC.payload_bytes(size)}
    programs = -(-size // triton_tiles.TILE.value)
    _check(launches, "quantize_bfloat16_b512_stochastic", sizes, programs=programs)


@pytest.mark.parametrize("function", TENSORS)
def test_nothing_is_launched_for_nothing(function: str, tmp_path: Path, driver: Path) -> None:
    layout = Layout(size=0, num_chunks=2, chunk_size=0)
    launches, stderr = _call(function, tmp_path, driver, layout=layout)
    assert stderr == ""
    assert not launches


def test_what_cannot_be_launched_is_named(tmp_path: Path, driver: Path) -> None:
    layout = Layout(size=10, num_chunks=1, chunk_size=10)
    _, stderr = _call("quantize", tmp_path, driver, layout=layout, shift=8)
    assert "must be aligned to 16 bytes" in stderr
    _, stderr = _call("quantize", tmp_path, driver, layout=layout, codec=Codec(0, 0, 96))
    assert "block_size must be a power of two from 64 to 4096, got 96" in stderr
    _, stderr = _call("dequantize", tmp_path, driver, layout=layout._replace(size=11))
    assert "the chunks must hold all values, got 10" in stderr
