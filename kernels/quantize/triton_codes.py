"""What codes stand for, in Triton: values of float32 to codes and back, and random numbers.

Results are those of reference.py bit for bit: sums and products are rounded one by one, and a
float8 is made from the bits of a float32, on every GPU alike.
"""

import triton
import triton.language as tl

from kernels.quantize.triton_tiles import places

# Of Format in problem.h.
INT8 = tl.constexpr(0)
E4M3 = tl.constexpr(1)

# Bits of a float32: the exponent; 2^23.
EXPONENT = tl.constexpr(0x7F800000)
INTEGER_BITS = tl.constexpr(0x4B000000)

# 2^23: from it to 2^24, float32 are 1 apart. So its sum with a smaller number is rounded to an
# integer, which is in the low bits of the sum. 1.5 * 2^23 does the same for negative numbers.
INTEGER = tl.constexpr(8388608.0)
SIGNED_INTEGER = tl.constexpr(12582912.0)

GOLDEN_RATIO = tl.constexpr(0x9E3779B9)

# MIN_SCALE and MAX_MAGNITUDE of contract.py.
MIN_SCALE = tl.constexpr(2.0**-126)
MAX_MAGNITUDE = tl.constexpr(2.0**128 - 2.0**105)

# Bits of a float32: all but the sign; infinity; NaN.
ABSOLUTE = tl.constexpr(0x7FFFFFFF)
INFINITY_BITS = tl.constexpr(0x7F800000)
NAN_BITS = tl.constexpr(0x7FC00000)


@triton.jit
def decode(codes, format, IS_INT: tl.constexpr):
    """The values of codes."""
    bits = codes.to(tl.int32)
    if IS_INT:
        values = from_bits((bits ^ 0x80) | INTEGER_BITS) - (INTEGER + 128.0)
    else:
        mantissa_bits, _, bias = _float8(format)
        shift = 23 - mantissa_bits
        # 2^-bias of it, which may be one of the smallest numbers, is exact.
        values = from_bits(((bits & 0x7F) << shift) | ((bits & 0x80) << 24)) * _power(bias)
    return values


@triton.jit
def quantize_blocks(v, seed, first, format, BLOCK: tl.constexpr, STOCHASTIC: tl.constexpr):
    """Quantizes a tile in blocks, its rows.

    Random numbers are those of a seed, from the number `first` on.

    Returns the codes, their values, the scales, and the bits of the blocks' magnitudes, which tell
    a block that is not finite.
    """
    # Of bits, which as integers are in the order of the numbers, with the NaNs on top.
    magnitude = tl.max(to_bits(v) & ABSOLUTE, 1)
    is_finite = magnitude < INFINITY_BITS
    is_usable = is_finite & (magnitude > 0)
    largest = tl.full(magnitude.shape, 1.0, tl.float32) * largest_value(format)
    divisor = from_bits(tl.where(is_usable, magnitude, 0))
    divisor = tl.minimum(tl.maximum(divisor, largest * MIN_SCALE), MAX_MAGNITUDE)
    scales = tl.where(is_usable, tl.div_rn(divisor, largest), 0.0)
    scales = tl.where(is_finite, scales, from_bits(tl.full(scales.shape, NAN_BITS, tl.int32)))
    inverses = tl.where(is_usable, tl.div_rn(largest, divisor), 0.0)
    scaled = tl.where(is_finite[:, None], v, 0.0) * inverses[:, None]
    if format == INT8:
        codes, values = _encode(scaled, seed, first, format, BLOCK, STOCHASTIC, True)
    else:
        codes, values = _encode(scaled, seed, first, format, BLOCK, STOCHASTIC, False)
    return codes, values, scales, magnitude


@triton.jit
def _encode(
    scaled, seed, first, format, BLOCK: tl.constexpr, STOCHASTIC: tl.constexpr,
    IS_INT: tl.constexpr,
):  # fmt: skip
    """Rounds to values of the format: their codes, and the values."""
    # The distance between neighbours, and a number whose last bit it is.
    step, magic = 1.0, SIGNED_INTEGER
    if not IS_INT:
        mantissa_bits, min_exponent, bias = _float8(format)
        exponent = tl.maximum(to_bits(scaled) & EXPONENT, (127 + min_exponent) << 23)
        step = from_bits(exponent - (mantissa_bits << 23))
        magic = step * SIGNED_INTEGER
    if STOCHASTIC:
        y = tl.minimum(tl.abs(scaled), largest_value(format))
        rounded = (y + magic) - magic
        rounded = tl.where(rounded > y, rounded - step, rounded)
        threshold = _uniform(seed, first, BLOCK) * step
        rounded = tl.where(threshold < y - rounded, rounded + step, rounded)
        values = tl.where(scaled < 0.0, 0.0 - rounded, rounded)
    else:
        # A quotient that rounding made larger than the largest value is rounded back to it.
        values = (scaled + magic) - magic
    # No zero has a sign any more.
    if IS_INT:
        codes = to_bits(values + SIGNED_INTEGER)
    else:
        bits = to_bits(values * _power(-bias))
        codes = ((bits >> (23 - mantissa_bits)) & 0x7F) | ((bits >> 24) & 0x80)
    return codes.to(tl.uint8), values


@triton.jit
def largest_value(format):
    """The largest value of a format."""
    return tl.where(format == INT8, 127.0, tl.where(format == E4M3, 448.0, 57344.0))


@triton.jit
def _float8(format):
    """The bits of the mantissa, the exponent of the smallest normal number, and the bias.

    The bits of 2^-bias times a value, in float32, are those of its code.
    """
    is_e4m3 = format == E4M3
    min_exponent = tl.where(is_e4m3, -6, -14)
    return tl.where(is_e4m3, 3, 2), min_exponent, 126 + min_exponent


@triton.jit
def _power(exponent):
    """2^exponent."""
    return from_bits((127 + exponent) << 23)


@triton.jit
def _uniform(seed, first, BLOCK: tl.constexpr):
    """Numbers in [0, 1) for a tile, from the number `first` of a seed on; see reference.py."""
    low, high = first.to(tl.uint32), (first >> 32).to(tl.uint32)
    lows = low + places(BLOCK).to(tl.uint32)
    key = _mix(seed + (high + 1) * GOLDEN_RATIO)
    next_key = _mix(seed + (high + 2) * GOLDEN_RATIO)
    keys = tl.where(lows < low, next_key, key)
    drawn = _mix(keys ^ _mix((lows + 1) * GOLDEN_RATIO))
    return (drawn >> 8).to(tl.int32).to(tl.float32) * 2.0**-24


@triton.jit
def _mix(x):
    x = (x ^ (x >> 16)) * 0x7FEB352D
    x = (x ^ (x >> 15)) * 0x846CA68B
    return x ^ (x >> 16)


@triton.jit
def to_bits(x):
    """The bits of float32, as int32."""
    return x.to(tl.int32, bitcast=True)


@triton.jit
def from_bits(bits):
    """The float32 of bits."""
    return bits.to(tl.float32, bitcast=True)
