"""Blockwise 8-bit quantization in Triton: the kernels, and what is compiled ahead of time.

Arrays are as in problem.h, and results are those of reference.py bit for bit; only where a value
reads as NaN may the bits of the NaN be others.

A program takes a tile of one chunk. Fixed at compile time are the dtype and, where values are
quantized, the block size and the rounding: random numbers take twice the registers. Format and
residual are arguments.

This file imports nothing but Triton, the standard library and the files beside it that it is
compiled with.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import triton
import triton.language as tl

from kernels.quantize.triton_codes import INFINITY_BITS, INT8, decode, quantize_blocks
from kernels.quantize.triton_tiles import TILE, load, locate, places, reload, span, store

# The smallest block: values that share a scale in any case.
GROUP = tl.constexpr(64)
LOG2_GROUP = tl.constexpr(6)


@triton.jit
def quantize(
    noise_ptr, x_ptr, residual_in_ptr, residual_out_ptr, payload_ptr, size, chunk_size,
    payload_bytes, format, has_residual, BLOCK: tl.constexpr, STOCHASTIC: tl.constexpr,
):  # fmt: skip
    """Quantizes [size] values, with the residual added if there is one."""
    chunk, tile = locate(chunk_size)
    start, count = span(size, chunk_size, chunk, tile)
    v = load(x_ptr, start, count, BLOCK)
    _quantize_tile(
        v, noise_ptr, residual_in_ptr, residual_out_ptr, start, count,
        payload_ptr + chunk * payload_bytes, payload_bytes, chunk_size, tile, format, has_residual,
        BLOCK, STOCHASTIC,
    )  # fmt: skip


@triton.jit
def reduce_quantize(
    noise_ptr, payloads_ptr, residual_in_ptr, residual_out_ptr, payload_ptr, size, payload_bytes,
    num_terms, multiplier, format, has_residual, BLOCK: tl.constexpr, LOG2_BLOCK: tl.constexpr,
    STOCHASTIC: tl.constexpr,
):  # fmt: skip
    """Quantizes `multiplier` times the sum of payloads, each of one chunk of [size] values."""
    chunk, tile = locate(size)
    start, count = span(size, size, chunk, tile)
    v = _sum(
        payloads_ptr, payload_bytes, num_terms, size, tile, LOG2_BLOCK, format, BLOCK, LOG2_BLOCK
    )  # fmt: skip
    _quantize_tile(
        v * multiplier, noise_ptr, residual_in_ptr, residual_out_ptr, start, count, payload_ptr,
        payload_bytes, size, tile, format, has_residual, BLOCK, STOCHASTIC,
    )  # fmt: skip


@triton.jit
def dequantize(
    payloads_ptr, out_ptr, size, chunk_size, payload_bytes, num_terms, multiplier, log2_block,
    format,
):  # fmt: skip
    """Writes [size] values, each chunk `multiplier` times the sum of `num_terms` payloads.

    The payloads of a chunk follow each other. An array that is dequantized has one for each chunk;
    a sum is a single chunk with all of them.
    """
    chunk, tile = locate(chunk_size)
    start, count = span(size, chunk_size, chunk, tile)
    total = _sum(
        payloads_ptr + chunk * num_terms * payload_bytes, payload_bytes, num_terms, chunk_size,
        tile, log2_block, format, GROUP, LOG2_GROUP,
    )  # fmt: skip
    store(out_ptr, start, count, total * multiplier, GROUP)


@triton.jit
def _sum(
    payloads_ptr, payload_bytes, num_terms, chunk_size, tile, log2_block, format,
    WIDTH: tl.constexpr, LOG2_WIDTH: tl.constexpr,
):  # fmt: skip
    """The sum over payloads of a tile, in rows of WIDTH, which divides the block size."""
    codes = (chunk_size + (1 << log2_block) - 1) >> log2_block << log2_block
    rows = tl.arange(0, TILE // WIDTH)
    mask = tile * TILE + rows * WIDTH < codes
    scales_ptr = payloads_ptr + codes + (tile * TILE >> log2_block) * 4
    scales_ptr = scales_ptr.to(tl.pointer_type(tl.float32)) + (rows >> (log2_block - LOG2_WIDTH))
    codes_ptr = tl.multiple_of(payloads_ptr + tile * TILE, 16) + places(WIDTH)
    if format == INT8:
        total = _sum_terms(codes_ptr, scales_ptr, mask, payload_bytes, num_terms, format, True)
    else:
        total = _sum_terms(codes_ptr, scales_ptr, mask, payload_bytes, num_terms, format, False)
    return total


@triton.jit
def _sum_terms(
    codes_ptr, scales_ptr, mask, payload_bytes, num_terms, format, IS_INT: tl.constexpr
):  # fmt: skip
    # The sign makes the first sum exactly its term, a zero of either sign included.
    total = tl.full(codes_ptr.shape, -0.0, tl.float32)
    for _ in range(num_terms):
        codes = tl.load(codes_ptr, mask=mask[:, None], other=0)
        scales = tl.load(scales_ptr, mask=mask, other=0.0)
        total += decode(codes, format, IS_INT) * scales[:, None]
        codes_ptr += payload_bytes
        scales_ptr += payload_bytes // 4
    return total


@triton.jit
def _quantize_tile(
    v, noise_ptr, residual_in_ptr, residual_out_ptr, start, count, payload_ptr, payload_bytes,
    chunk_size, tile, format, has_residual, BLOCK: tl.constexpr, STOCHASTIC: tl.constexpr,
):  # fmt: skip
    """Quantizes a tile of a chunk and writes its codes, scales and residual."""
    if has_residual:
        v += load(residual_in_ptr, start, count, BLOCK)
    seed, first = 0, start
    if STOCHASTIC:
        seed = tl.load(noise_ptr).to(tl.uint32)
        low = tl.load(noise_ptr + 1).to(tl.uint32).to(tl.int64)
        high = tl.load(noise_ptr + 2).to(tl.uint32).to(tl.int64)
        first = (low | (high << 32)) + start
    codes, values, scales, magnitude = quantize_blocks(v, seed, first, format, BLOCK, STOCHASTIC)
    _store_payload(payload_ptr, payload_bytes, chunk_size, tile, codes, scales, BLOCK)
    if has_residual:
        rest = v - values * scales[:, None]
        rest = reload(residual_in_ptr, start, count, rest, magnitude >= INFINITY_BITS, BLOCK)
        store(residual_out_ptr, start, count, rest, BLOCK)


@triton.jit
def _store_payload(
    payload_ptr, payload_bytes, chunk_size, tile, codes, scales, BLOCK: tl.constexpr
):
    blocks = tl.cdiv(chunk_size, BLOCK)
    index = tile * (TILE // BLOCK) + tl.arange(0, TILE // BLOCK)
    codes_ptr = tl.multiple_of(payload_ptr + tile * TILE, 16) + places(BLOCK)
    tl.store(codes_ptr, codes, mask=(index < blocks)[:, None])
    scales_ptr = (payload_ptr + blocks * BLOCK).to(tl.pointer_type(tl.float32))
    tl.store(scales_ptr + index, scales, mask=index < blocks)
    if (tile + 1) * TILE >= chunk_size:
        words = (payload_bytes - blocks * BLOCK) // 4
        padding = blocks + tl.arange(0, 4)
        tl.store(scales_ptr + padding, tl.zeros([4], tl.float32), mask=padding < words)


class Variant(NamedTuple):
    """One kernel with everything fixed that has to be at compile time.

    `signature` gives the type of each run-time parameter in launch order; a number after a colon
    promises that the value is divisible by it. `constexprs` are the other parameters.
    """

    name: str
    kernel: Any
    signature: dict[str, str]
    constexprs: dict[str, Any]
    num_warps: int = 8
    num_stages: int = 1
    # Where a product and a sum became one instruction, they would be rounded once.
    options: Mapping[str, Any] = MappingProxyType({"enable_fp_fusion": False})


_DTYPES = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32"}

# As BLOCK_SIZES in contract.py.
_BLOCK_SIZES = (64, 128, 256, 512, 1024, 2048, 4096)

# Of parameters; the others are i32, but for x_ptr and out_ptr, which have the dtype of the values.
_TYPES = {
    "noise_ptr": "*u32:16",
    "payload_ptr": "*u8:16",
    "payloads_ptr": "*u8:16",
    "residual_in_ptr": "*fp32:16",
    "residual_out_ptr": "*fp32:16",
    "size": "i64",
    "chunk_size": "i64",
    "payload_bytes": "i64:16",
    "multiplier": "fp32",
}


def _variant(kernel: Any, dtype: str, **constexprs: Any) -> Variant:
    name = kernel.__name__
    if kernel is not reduce_quantize:
        name += f"_{dtype}"
    if "BLOCK" in constexprs:
        rounding = "stochastic" if constexprs["STOCHASTIC"] else "nearest"
        name += f"_b{constexprs['BLOCK']}_{rounding}"
    types = {**_TYPES, **dict.fromkeys(("x_ptr", "out_ptr"), f"*{_DTYPES[dtype]}:16")}
    parameters = [n for n in kernel.arg_names if n not in constexprs]
    return Variant(name, kernel, {n: types.get(n, "i32") for n in parameters}, constexprs)


def _quantizers() -> tuple[Variant, ...]:
    variants = []
    for block in _BLOCK_SIZES:
        for is_stochastic in (False, True):
            fixed = {"BLOCK": block, "STOCHASTIC": is_stochastic}
            variants += [_variant(quantize, dtype, **fixed) for dtype in _DTYPES]
            fixed["LOG2_BLOCK"] = block.bit_length() - 1
            variants.append(_variant(reduce_quantize, "float32", **fixed))
    return tuple(variants)


VARIANTS = (*_quantizers(), *(_variant(dequantize, dtype) for dtype in _DTYPES))

# float16 is as bfloat16.
SAMPLE = tuple(
    variant
    for variant in VARIANTS
    if variant.kernel is dequantize
    or (variant.constexprs["BLOCK"] in (64, 512, 4096) and "_float16_" not in variant.name)
)
