"""A step of an optimizer in Triton: the kernel, and what is compiled ahead of time.

A program updates a tile of one tensor: what its weights need is read once and written once. The
rules are those of cpu_rules-inl.h, operation by operation, each rounded by itself. Fixed at compile
time are the rule, the dtype of the weights, and whether slots are bytes.

This file imports nothing but Triton, the standard library and the files that it is compiled with.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import triton
import triton.language as tl

from kernels.quantize.triton_codes import E4M3, decode, quantize_blocks
from kernels.quantize.triton_tiles import TILE, load, places, span, store

# Of Rule in problem.h.
ADABELIEF = tl.constexpr(0)
ADAMW = tl.constexpr(1)
ADAN = tl.constexpr(2)
LION = tl.constexpr(3)
SOPHIA = tl.constexpr(4)

# As CODEC and LEAST in contract.py.
BLOCK = tl.constexpr(256)
LEAST = tl.constexpr(2.0**-9)

# Of the slots but the first, as `seed` in contract.py.
SLOT_SEEDS = (tl.constexpr(0xC2B2AE3D), tl.constexpr(0x85655C7A), tl.constexpr(0x48180AB7))
SEED1, SEED2, SEED3 = SLOT_SEEDS


@triton.jit
def optimizer_step(
    step_ptr, numbers_ptr, param_ptr, grad_ptr, slot0_ptr, slot1_ptr, slot2_ptr, slot3_ptr, size,
    index, weight_decay, is_proximal, hyper0, hyper1, hyper2, hyper3, rest0, rest1, rest2,
    RULE: tl.constexpr, SLOTS: tl.constexpr, SQUARES: tl.constexpr, CHANGED: tl.constexpr,
):  # fmt: skip
    """Updates a tensor of `size` weights.

    `numbers` are the learning rate and the rule's scalars, `hyper` its hyperparameters, and `rest`
    1 minus them. SQUARES and CHANGED have a bit for each of the SLOTS, as in cpu_rules-inl.h.
    """
    tile = tl.cast(tl.program_id(0), tl.int64)
    start, count = span(size, size, 0, tile)
    g = load(grad_ptr, start, count, BLOCK)
    s0 = _read(slot0_ptr, start, count, size, SQUARES & 1)
    s1, s2, s3 = s0, s0, s0
    if SLOTS > 1:
        s1 = _read(slot1_ptr, start, count, size, (SQUARES >> 1) & 1)
    if SLOTS > 2:
        s2 = _read(slot2_ptr, start, count, size, (SQUARES >> 2) & 1)
        s3 = _read(slot3_ptr, start, count, size, (SQUARES >> 3) & 1)
    scalars_ptr = numbers_ptr + 1

    if RULE == ADABELIEF:
        s0 = hyper0 * s0 + rest0 * g
        surprise = g - s0
        s1 = (hyper1 * s1 + rest1 * (surprise * surprise)) + hyper2
        deviation = tl.sqrt_rn(s1 * tl.load(scalars_ptr + 1)) + hyper2
        scale = _divide(1.0, deviation) * tl.load(scalars_ptr + 2)
        u = s0 * tl.load(scalars_ptr) * (scale + tl.load(scalars_ptr + 3))
    elif RULE == ADAMW:
        s0 = hyper0 * s0 + rest0 * g
        s1 = hyper1 * s1 + rest1 * (g * g)
        root = tl.sqrt_rn(s1 * tl.load(scalars_ptr + 1))
        u = _divide(s0 * tl.load(scalars_ptr), root + hyper2)
    elif RULE == ADAN:
        difference = (g - s3) * tl.load(scalars_ptr + 3)
        ahead = g + hyper1 * difference
        s0 = hyper0 * s0 + rest0 * g
        s1 = hyper1 * s1 + rest1 * difference
        s2 = hyper2 * s2 + rest2 * (ahead * ahead)
        s3 = g
        momentum = s0 * tl.load(scalars_ptr) + s1 * tl.load(scalars_ptr + 1)
        u = _divide(momentum, tl.sqrt_rn(s2 * tl.load(scalars_ptr + 2)) + hyper3)
    elif RULE == LION:
        c = hyper0 * s0 + rest0 * g
        s0 = hyper1 * s0 + rest1 * g
        sign = tl.where(c > 0.0, 1.0, 0.0) - tl.where(c < 0.0, 1.0, 0.0)
        u = tl.where(c - c == 0.0, sign, c)  # infinity and NaN stay what they are
    else:
        s0 = hyper0 * s0 + rest0 * g
        curvature = hyper1 * s1
        ratio = _divide(s0, tl.where(curvature < hyper2, hyper2, curvature))
        ratio = tl.where(ratio < -1.0, -1.0, ratio)
        ratio = tl.where(ratio > 1.0, 1.0, ratio)
        # A ratio may overflow; what it is of may not be infinite.
        unknown = (s0 - s0) + (s1 - s1)
        u = tl.where(unknown == 0.0, ratio, unknown)

    rate = tl.load(numbers_ptr)
    w = load(param_ptr, start, count, BLOCK)
    change = (u + weight_decay * w) * (0.0 - rate)
    if is_proximal:
        change = _divide(change, 1.0 + rate * weight_decay)
    store(param_ptr, start, count, w + change, BLOCK)

    step = tl.load(step_ptr).to(tl.uint32)
    seed = step * 0x9E3779B1 + tl.cast(index, tl.uint32) * 0x85EBCA77
    _write(slot0_ptr, start, count, size, s0, seed, SQUARES & 1)
    if (CHANGED >> 1) & 1:
        _write(slot1_ptr, start, count, size, s1, seed + SEED1, (SQUARES >> 1) & 1)
    if SLOTS > 2:
        _write(slot2_ptr, start, count, size, s2, seed + SEED2, (SQUARES >> 2) & 1)
        _write(slot3_ptr, start, count, size, s3, seed + SEED3, (SQUARES >> 3) & 1)


@triton.jit
def _divide(x, y):
    """The quotient, rounded correctly."""
    return tl.div_rn(tl.zeros_like(y) + x, tl.zeros_like(x + y) + y)


@triton.jit
def _read(ptr, start, count, size, IS_SQUARE: tl.constexpr):
    """The values of a tile of a slot, float32 or bytes."""
    if ptr.dtype.element_ty == tl.float32:
        values = load(ptr, start, count, BLOCK)
    else:
        codes_ptr, scales_ptr, mask = _payload(ptr, start, size)
        codes = tl.load(codes_ptr, mask=mask[:, None], other=0)
        scales = tl.load(scales_ptr, mask=mask, other=0.0)
        values = decode(codes, E4M3, False) * scales[:, None]
        if IS_SQUARE:
            least = (scales * LEAST)[:, None]
            values = tl.where(values < least, least, values)
            values = values * values
    return values


@triton.jit
def _write(ptr, start, count, size, values, seed, IS_SQUARE: tl.constexpr):
    if ptr.dtype.element_ty == tl.float32:
        store(ptr, start, count, values, BLOCK)
    else:
        if IS_SQUARE:
            values = tl.sqrt_rn(values)
        # What fills the last block counts as zeros.
        values = tl.where(places(BLOCK) < count, values, 0.0)
        codes, _, scales, _ = quantize_blocks(values, seed, start, E4M3, BLOCK, True)
        codes_ptr, scales_ptr, mask = _payload(ptr, start, size)
        tl.store(codes_ptr, codes, mask=mask[:, None])
        tl.store(scales_ptr, scales, mask=mask)


@triton.jit
def _payload(ptr, start, size):
    """Where the codes and scales of a tile are, and which of its blocks there are."""
    blocks = tl.cdiv(size, BLOCK)
    block = start // BLOCK + tl.arange(0, TILE // BLOCK)
    codes_ptr = tl.multiple_of(ptr + start, 16) + places(BLOCK)
    scales_ptr = (ptr + blocks * BLOCK).to(tl.pointer_type(tl.float32))
    return codes_ptr, scales_ptr + block, block < blocks


class Variant(NamedTuple):
    """The kernel with everything fixed that has to be at compile time.

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


class _Rule(NamedTuple):
    RULE: int
    SLOTS: int
    SQUARES: int
    CHANGED: int


_RULES = {
    "adabelief": _Rule(ADABELIEF.value, 2, 0b10, 0b11),
    "adamw": _Rule(ADAMW.value, 2, 0b10, 0b11),
    "adan": _Rule(ADAN.value, 4, 0b0100, 0b1111),
    "lion": _Rule(LION.value, 1, 0, 0b1),
    "sophia": _Rule(SOPHIA.value, 2, 0, 0b01),
}

_DTYPES = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32"}

_SLOT_TYPES = {"floats": "*fp32:16", "bytes": "*u8:16"}

# Of parameters; the others are fp32.
_TYPES = {
    "step_ptr": "*i32:16",
    "numbers_ptr": "*fp32:16",
    "size": "i64",
    "index": "i32",
    "is_proximal": "i32",
}


def _variant(rule: str, dtype: str, slots: str) -> Variant:
    types = {**_TYPES, **dict.fromkeys(("param_ptr", "grad_ptr"), f"*{_DTYPES[dtype]}:16")}
    types |= dict.fromkeys([f"slot{k}_ptr" for k in range(4)], _SLOT_TYPES[slots])
    constexprs = _RULES[rule]._asdict()
    parameters = [name for name in optimizer_step.arg_names if name not in constexprs]
    signature = {name: types.get(name, "fp32") for name in parameters}
    return Variant(f"{rule}_{dtype}_{slots}", optimizer_step, signature, constexprs)


VARIANTS = tuple(
    _variant(rule, dtype, slots) for rule in _RULES for dtype in _DTYPES for slots in _SLOT_TYPES
)

# Each rule with each kind of slots, and two dtypes that differ in more than their name.
SAMPLE = tuple(v for v in VARIANTS if v.name.endswith(("bfloat16_bytes", "float32_floats")))
