"""The variants of attention's Triton kernels that are compiled ahead of time, and their blocks.

    kernel                flavours                      for
    attention_fwd         plain, alibi, full, decode    out and lse
    attention_bwd_delta   one                           sum(out * grad_out) - grad_lse
    attention_bwd_kv      plain, alibi, full            grad_k and grad_v
    attention_bwd_q       plain, alibi, full            grad_q and grad_slopes
    attention_rotate      one                           RoPE of q and k, and back of their gradients

A flavour does what those before it do. A call takes the first that does all it asks for, of those
that there are for its dtype and BLOCK_D, the least of 32, 64, 128 and 256 that holds a head:

    plain    windows (causal among them), grouped heads    float16, bfloat16
    alibi    ALiBi and its gradient; scales of 0 and less  float16, bfloat16 at 64 and 128
    full     segments, softcap, dropout                    all
    decode   up to DECODE_QUERIES queries; fused RoPE      all

`choose_flavour` here and ChooseFlavour in triton.cc are that rule.

Reference of the blocks: PyTorch's FlexAttention (torch/_inductor/template_heuristics) and
FlashAttention (hopper/tile_size.h) for the first choice; then the largest that spill no registers.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from kernels.attention.triton_backward import (
    attention_bwd_delta,
    attention_bwd_kv,
    attention_bwd_q,
)
from kernels.attention.triton_forward import attention_fwd
from kernels.attention.triton_rope import attention_rotate

FLAVOURS = ("plain", "alibi", "full", "decode")
PLAIN, ALIBI, FULL, DECODE = range(4)

# Calls of so few queries are bound by reading keys and values: blocks are small, and RoPE of the
# keys costs less fused than a pass over them.
DECODE_QUERIES = 16

# The plain flavour takes the largest product for the largest score, and -inf times 0 is NaN.
LEAST_PLAIN_SCALE = 1e-30

ARCHS = (80, 90, 100)

_DTYPES = {"float16": ("fp16", 2), "bfloat16": ("bf16", 2), "float32": ("fp32", 4)}
_BLOCKS_D = (32, 64, 128, 256)


class Variant(NamedTuple):
    """One kernel with everything fixed that has to be at compile time.

    `signature` gives the type of each run-time parameter in launch order; a number after a colon
    promises that the value is divisible by it. `constexprs` are the other parameters. `archs` are
    the compute capabilities that it is compiled for: names are unique in each.
    """

    name: str
    kernel: Any
    signature: dict[str, str]
    constexprs: dict[str, Any]
    num_warps: int
    num_stages: int
    archs: tuple[int, ...]


# Rows of queries and of keys that a program holds at a time, number of warps and of stages.
_Blocks = tuple[int, int, int, int]
_Table = dict[tuple[int, int], dict[int, tuple[_Blocks, _Blocks, _Blocks]]]


def has_flavour(flavour: int, dtype: str, block_d: int) -> bool:
    """Whether the kernels are compiled for a flavour."""
    if flavour == PLAIN:
        return dtype != "float32"
    if flavour == ALIBI:
        return dtype != "float32" and block_d in (64, 128)
    return True


def choose_flavour(needed: int, dtype: str, block_d: int) -> int:
    """Returns the first flavour there is that does what `needed` does."""
    return next(f for f in range(needed, DECODE + 1) if has_flavour(f, dtype, block_d))


def variant_name(kernel: str, flavour: int, dtype: str, block_d: int) -> str:
    """Returns such as attention_fwd_plain_bfloat16_d64; kernels of one flavour have none."""
    part = f"_{FLAVOURS[flavour]}" if kernel in _FLAVOURED else ""
    return f"{kernel}{part}_{dtype}_d{block_d}"


# By kernel, flavour and width of the elements in bytes: BLOCK_D -> blocks for sm_80, sm_90, sm_100.
# Plain and alibi share their blocks. On Hopper a warp group multiplies 64 rows: 8 warps want 128.
# sm_80 keeps within 99 KiB of shared memory, for GPUs of the 30 and 40 series.
_FORWARD_BLOCKS: _Table = {
    (PLAIN, 2): {
        32: ((128, 64, 4, 3), (128, 64, 4, 3), (128, 64, 4, 3)),
        64: ((128, 64, 8, 3), (128, 64, 4, 3), (128, 64, 4, 3)),
        128: ((128, 32, 8, 3), (128, 64, 8, 3), (128, 64, 8, 3)),
        256: ((64, 32, 8, 2), (128, 32, 8, 3), (128, 32, 8, 3)),
    },
    (FULL, 2): {
        32: ((128, 64, 8, 3), (128, 64, 4, 3), (128, 64, 4, 3)),
        64: ((128, 32, 4, 3), (128, 64, 8, 3), (128, 64, 4, 3)),
        128: ((128, 64, 8, 2), (128, 64, 8, 3), (128, 64, 8, 3)),
        256: ((64, 32, 8, 2), (128, 32, 8, 3), (128, 32, 8, 2)),
    },
    (FULL, 4): {
        32: ((128, 32, 8, 2), (128, 32, 8, 2), (128, 32, 8, 2)),
        64: ((32, 32, 4, 2), (128, 32, 8, 2), (64, 32, 8, 2)),
        128: ((64, 16, 8, 2), (64, 32, 8, 2), (32, 16, 8, 2)),
        256: ((16, 32, 8, 1), (16, 32, 8, 1), (16, 32, 8, 1)),
    },
    (DECODE, 2): {
        32: ((16, 128, 4, 3), (16, 128, 4, 3), (16, 128, 4, 3)),
        64: ((16, 64, 4, 3), (16, 64, 4, 3), (16, 64, 4, 3)),
        128: ((16, 32, 4, 3), (16, 32, 4, 3), (16, 32, 4, 3)),
        256: ((16, 32, 8, 2), (16, 32, 8, 2), (16, 32, 8, 2)),
    },
    (DECODE, 4): {
        32: ((16, 64, 4, 2), (16, 64, 4, 2), (16, 64, 4, 2)),
        64: ((16, 32, 4, 2), (16, 32, 4, 2), (16, 32, 4, 2)),
        128: ((16, 32, 8, 1), (16, 32, 8, 1), (16, 32, 8, 1)),
        256: ((16, 32, 16, 1), (16, 32, 16, 1), (16, 32, 16, 1)),
    },
}
_GRAD_KV_BLOCKS: _Table = {
    (PLAIN, 2): {
        32: ((64, 128, 8, 2), (64, 128, 8, 2), (64, 128, 8, 2)),
        64: ((32, 128, 8, 2), (64, 128, 8, 3), (64, 128, 8, 3)),
        128: ((64, 64, 8, 1), (32, 128, 8, 2), (64, 128, 8, 2)),
        256: ((16, 64, 8, 1), (32, 32, 8, 1), (32, 64, 8, 2)),
    },
    (FULL, 2): {
        32: ((32, 64, 4, 2), (64, 128, 8, 2), (64, 64, 4, 2)),
        64: ((32, 64, 4, 1), (32, 128, 8, 2), (32, 128, 8, 2)),
        128: ((16, 32, 4, 1), (32, 128, 8, 2), (32, 128, 8, 2)),
        256: ((16, 32, 8, 1), (16, 32, 8, 1), (32, 64, 8, 2)),
    },
    (FULL, 4): {
        32: ((16, 32, 4, 1), (16, 64, 4, 1), (16, 64, 4, 1)),
        64: ((16, 32, 8, 1), (16, 32, 8, 1), (16, 32, 8, 1)),
        128: ((16, 16, 8, 1), (16, 16, 8, 1), (16, 16, 8, 1)),
        256: ((16, 16, 8, 1), (16, 16, 8, 1), (16, 16, 8, 1)),
    },
}
_GRAD_Q_BLOCKS: _Table = {
    (PLAIN, 2): {
        32: ((64, 64, 4, 3), (128, 64, 4, 3), (128, 64, 4, 3)),
        64: ((128, 64, 8, 2), (128, 64, 8, 3), (128, 64, 8, 3)),
        128: ((128, 32, 8, 2), (128, 64, 8, 2), (128, 64, 8, 2)),
        256: ((64, 32, 8, 1), (64, 32, 8, 2), (128, 32, 8, 1)),
    },
    (FULL, 2): {
        32: ((64, 32, 8, 2), (128, 64, 8, 3), (64, 32, 4, 2)),
        64: ((64, 32, 8, 2), (128, 64, 8, 3), (64, 32, 4, 2)),
        128: ((64, 32, 8, 1), (128, 32, 8, 2), (128, 32, 8, 2)),
        256: ((32, 16, 4, 1), (64, 32, 8, 1), (64, 32, 8, 2)),
    },
    (FULL, 4): {
        32: ((32, 32, 4, 1), (64, 32, 8, 2), (64, 32, 8, 2)),
        64: ((16, 32, 4, 1), (16, 32, 4, 1), (16, 32, 4, 1)),
        128: ((16, 32, 8, 1), (16, 32, 8, 1), (16, 32, 8, 1)),
        256: ((16, 32, 8, 1), (16, 32, 8, 1), (16, 32, 8, 1)),
    },
}


_FLAVOURED = {
    "attention_fwd": (attention_fwd, _FORWARD_BLOCKS, (PLAIN, ALIBI, FULL, DECODE)),
    "attention_bwd_kv": (attention_bwd_kv, _GRAD_KV_BLOCKS, (PLAIN, ALIBI, FULL)),
    "attention_bwd_q": (attention_bwd_q, _GRAD_Q_BLOCKS, (PLAIN, ALIBI, FULL)),
}
# Kernels that only move memory, the parameter for their rows and the elements of a block: a few
# vectors for each thread.
_UNFLAVOURED = {
    "attention_bwd_delta": (attention_bwd_delta, "BLOCK_Q", 4096),
    "attention_rotate": (attention_rotate, "BLOCK_ROWS", 2048),
}

# Parameters that are neither arrays of q's type nor integers. head_dim: rows of 16-byte vectors.
_TYPES = (
    {"head_dim": "i32:8"}
    | dict.fromkeys(("softmax_scale", "softcap", "dropout_scale", "direction"), "fp32")
    | dict.fromkeys(("lse_ptr", "grad_lse_ptr", "delta_ptr"), "*fp32:16")
    | dict.fromkeys(("alibi_slopes_ptr", "grad_slopes_ptr"), "*fp32:16")
    | dict.fromkeys(("rope_cos_ptr", "rope_sin_ptr"), "*fp32:16")
    | dict.fromkeys(("q_segments_ptr", "kv_segments_ptr", "dropout_seeds_ptr"), "*i32:16")
)


def _variant(
    name: str, kernel: Any, dtype: str, constexprs: dict[str, Any], schedule: tuple[int, int],
    archs: tuple[int, ...],
) -> Variant:  # fmt: skip
    array = f"*{_DTYPES[dtype][0]}:16"
    names = kernel.arg_names
    return Variant(
        name=name,
        kernel=kernel,
        signature={
            name: _TYPES.get(name, array if name.endswith("_ptr") else "i32")
            for name in names
            if name not in constexprs
        },
        constexprs={name: constexprs[name] for name in names if name in constexprs},
        num_warps=schedule[0],
        num_stages=schedule[1],
        archs=archs,
    )


def _flavoured(dtype: str, block_d: int) -> Iterator[Variant]:
    width = _DTYPES[dtype][1]
    for kernel_name, (kernel, table, flavours) in _FLAVOURED.items():
        for flavour in flavours:
            if not has_flavour(flavour, dtype, block_d):
                continue
            name = variant_name(kernel_name, flavour, dtype, block_d)
            row = table[PLAIN if flavour == ALIBI else flavour, width][block_d]
            for arch, (block_q, block_k, num_warps, num_stages) in zip(ARCHS, row, strict=True):
                constexprs = {
                    "FLAVOUR": flavour,
                    # Three TF32 products give float32's precision on tensor cores.
                    "PRECISION": "tf32x3" if dtype == "float32" else "ieee",
                    "BLOCK_Q": block_q,
                    "BLOCK_K": block_k,
                    "BLOCK_D": block_d,
                }
                schedule = num_warps, num_stages
                yield _variant(name, kernel, dtype, constexprs, schedule, (arch,))


def _unflavoured(dtype: str, block_d: int) -> Iterator[Variant]:
    for kernel_name, (kernel, rows, elements) in _UNFLAVOURED.items():
        name = variant_name(kernel_name, PLAIN, dtype, block_d)
        constexprs = {rows: elements // block_d, "BLOCK_D": block_d}
        yield _variant(name, kernel, dtype, constexprs, (4, 1), ARCHS)


VARIANTS = tuple(
    variant
    for dtype in _DTYPES
    for block_d in _BLOCKS_D
    for make in (_flavoured, _unflavoured)
    for variant in make(dtype, block_d)
)

# float16 is as bfloat16, and at 64 and 128 there are all flavours.
SAMPLE = tuple(
    variant
    for variant in VARIANTS
    if "_float16_" not in variant.name and variant.constexprs["BLOCK_D"] in (64, 128)
)
