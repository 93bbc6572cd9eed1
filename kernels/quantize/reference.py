"""Blockwise 8-bit quantization, the specification, in plain numpy.

It is in the float32 arithmetic that every backend repeats bit for bit.
For a block of values v (in float32, with the residual added where there is one):

    magnitude = clamp(max |v|, max_value * MIN_SCALE, MAX_MAGNITUDE)
    scale     = magnitude / max_value                     (of the format: 127, 448 or 57344)
    y         = clamp(v * (max_value / magnitude), -max_value, max_value)
    codes     = y rounded to a value of the format
    residual  = v - codes * scale

Each operation is rounded to the nearest float32, products and sums one by one. Then

- A block with a NaN or an infinity has scale NaN and codes 0: all of it reads as NaN, so that it
  propagates and is seen. Its residual stays as it was: what makes a step be skipped does not stay
  in the residual. So has a block in which v overflows float32, be it in x + residual or in a sum.
- Every other block is coded, up to the largest float32. A block of zeros has scale 0 and codes 0.
- Where the smallest normal float32 is the scale, MIN_SCALE, a step is that of the format's codes
  times 2^-126: for int8, what is below 2^-127 becomes zero, for float8_e4m3fn below 2^-136 and for
  float8_e5m2 below 2^-143, which are half of the smallest step.
- The step between neighbouring values of a float format near y is 2^(max(exponent(y),
  min_exponent) - mantissa_bits), and 1 for int8. y is rounded to a multiple of it: nearest, ties to
  even, or stochastically, up when uniform(seed, offset + index) < the fraction above the multiple
  below in magnitude.
- For nearest, codes * scale + residual == v exactly.

The sum over chunks that `reduce` computes is of float32, in order: ((t0 + t1) + t2) + ..., times
the multiplier.

Reference: blocks as in Dettmers et al., "8-bit Optimizers via Block-wise Quantization", 2022,
arXiv:2110.02861; error feedback as in Karimireddy et al., "Error Feedback Fixes SignSGD", 2019,
arXiv:1901.09847; float8 as in Micikevicius et al., "FP8 Formats for Deep Learning", 2022,
arXiv:2209.05433; the integer hash is lowbias32 of Wellons, "Prospecting for Hash Functions", 2018.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.quantize.contract import (
    FORMATS,
    MAX_MAGNITUDE,
    MIN_SCALE,
    ROUNDINGS,
    Codec,
    Format,
    Layout,
)

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

_GOLDEN_RATIO = 0x9E3779B9
_BITS = 0xFFFFFFFF


class Quantized(NamedTuple):
    """A payload [num_chunks, payload_bytes] and the new residual [size], None without an old."""

    payload: Bytes
    residual: Floats | None


def quantize(
    x: Floats,
    codec: Codec,
    layout: Layout,
    *,
    residual: Floats | None = None,
    seed: int = 0,
    offset: int = 0,
) -> Quantized:
    """Quantizes [size] values; what they are cut into is `layout`."""
    size, num_chunks, chunk_size = layout
    padded = codec.padded_size(chunk_size)
    values = x.astype(np.float32) if residual is None else x.astype(np.float32) + residual
    indices = np.arange(num_chunks * chunk_size, dtype=np.uint64) + np.uint64(offset)

    def blocks(flat: NDArray[Any]) -> NDArray[Any]:
        """[num_chunks * chunk_size] as [num_chunks, blocks, block_size]."""
        rows = np.pad(flat.reshape(num_chunks, chunk_size), ((0, 0), (0, padded - chunk_size)))
        return rows.reshape(num_chunks, -1, codec.block_size)

    beyond = num_chunks * chunk_size - size
    v = blocks(np.pad(values, (0, beyond)))
    noise = blocks(uniform(seed, indices)) if ROUNDINGS[codec.rounding] == "stochastic" else None
    codes, scales = _quantize_blocks(v, noise, FORMATS[codec.format])
    payload = _pack(codes, scales, codec.payload_bytes(chunk_size))
    if residual is None:
        return Quantized(payload, None)
    sent = (decode(codes, FORMATS[codec.format]) * scales[..., None]).astype(np.float32)
    with np.errstate(invalid="ignore"):
        rest = (v - sent).reshape(num_chunks, padded)[:, :chunk_size].reshape(-1)[:size]
    lost = np.repeat(np.isnan(scales), codec.block_size, axis=-1).reshape(num_chunks, padded)
    lost = lost[:, :chunk_size].reshape(-1)[:size]
    return Quantized(payload, np.where(lost, residual, rest).astype(np.float32))


def dequantize(payload: Bytes, codec: Codec, layout: Layout) -> Floats:
    """Returns the [size] values of a payload."""
    codes, scales = unpack(payload, codec, layout.chunk_size)
    values = decode(codes, FORMATS[codec.format]) * scales[..., None]
    rows = values.reshape(layout.num_chunks, -1)[:, : layout.chunk_size]
    return rows.reshape(-1)[: layout.size].astype(np.float32)


def reduce(payloads: Bytes, codec: Codec, size: int, *, multiplier: float = 1.0) -> Floats:
    """Returns `multiplier` times the sum of the rows, each the payload of one chunk [size]."""
    total = None
    for row in payloads:
        term = dequantize(row[None], codec, Layout(size, 1, size))
        total = term if total is None else total + term
    if total is None:
        raise ValueError("there is nothing to sum: no payloads")
    return total * np.float32(multiplier)


def reduce_quantize(
    payloads: Bytes,
    codec: Codec,
    size: int,
    *,
    multiplier: float = 1.0,
    residual: Floats | None = None,
    seed: int = 0,
    offset: int = 0,
) -> Quantized:
    """Quantizes what `reduce` gives: a payload of one chunk [1, payload_bytes]."""
    total = reduce(payloads, codec, size, multiplier=multiplier)
    layout = Layout(size, 1, size)
    return quantize(total, codec, layout, residual=residual, seed=seed, offset=offset)


def uniform(seed: int, indices: NDArray[np.uint64]) -> Floats:
    """Returns numbers in [0, 1), multiples of 2^-24, each a hash of (seed, its index).

    The low 32 bits of the seed and all 64 of the index count.
    """
    golden, bits = np.uint64(_GOLDEN_RATIO), np.uint64(_BITS)
    low, high = indices & bits, indices >> np.uint64(32)
    key = _mix((np.uint64(seed & _BITS) + golden * (high + np.uint64(1))) & bits)
    drawn = _mix(key ^ _mix((golden * (low + np.uint64(1))) & bits))
    return (drawn >> np.uint64(8)).astype(np.float32) * np.float32(2.0**-24)


def decode(codes: Bytes, format: Format) -> Floats:
    """Returns the values of codes, all of which are finite."""
    if not format.mantissa_bits:
        return codes.view(np.int8).astype(np.float32)
    magnitude = (codes & 0x7F).astype(np.int32)
    exponent, mantissa = magnitude >> format.mantissa_bits, magnitude % 2**format.mantissa_bits
    steps = mantissa + np.where(exponent > 0, 2**format.mantissa_bits, 0)
    power = np.maximum(exponent - 1, 0) + format.min_exponent - format.mantissa_bits
    values = np.ldexp(steps.astype(np.float32), power)
    return np.where(codes & 0x80, -values, values).astype(np.float32)


def unpack(payload: Bytes, codec: Codec, chunk_size: int) -> tuple[Bytes, Floats]:
    """Returns the codes [num_chunks, blocks, block_size] and scales [num_chunks, blocks]."""
    padded = codec.padded_size(chunk_size)
    num_blocks = padded // codec.block_size
    codes = payload[:, :padded].reshape(len(payload), num_blocks, codec.block_size)
    scales = np.ascontiguousarray(payload[:, padded : padded + 4 * num_blocks]).view(np.float32)
    return codes, scales.reshape(len(payload), num_blocks)


def _quantize_blocks(v: Floats, noise: Floats | None, format: Format) -> tuple[Bytes, Floats]:
    magnitude = np.max(np.abs(v), axis=-1)
    finite, largest = np.isfinite(magnitude), np.float32(format.max_value)
    usable = finite & (magnitude > 0)
    least = largest * np.float32(MIN_SCALE)
    divisor = np.clip(np.where(usable, magnitude, least), least, np.float32(MAX_MAGNITUDE))
    scales = np.where(usable, divisor / largest, np.where(finite, 0.0, np.nan))
    inverses = np.where(usable, largest / divisor, np.float32(0)).astype(np.float32)
    v = np.where(usable[..., None], v, np.float32(0))
    y = np.minimum(np.abs(v) * inverses[..., None], largest)
    return _encode(y, np.signbit(v), noise, format), scales.astype(np.float32)


def _encode(y: Floats, negative: NDArray[np.bool_], noise: Floats | None, format: Format) -> Bytes:
    """Rounds magnitudes to values of the format. A zero has no sign, nor has what rounds to it."""
    exponent = np.where(y > 0, np.frexp(y)[1] - 1, format.min_exponent)
    above = np.maximum(exponent - format.min_exponent, 0) if format.mantissa_bits else 0
    steps = np.ldexp(y, format.mantissa_bits - format.min_exponent - above).astype(np.float32)
    if noise is None:
        rounded = np.rint(steps)
    else:
        rounded = np.floor(steps)
        rounded = rounded + (noise < steps - rounded)
    magnitude = rounded.astype(np.int32) + (above << format.mantissa_bits)
    if not format.mantissa_bits:
        return np.where(negative, -magnitude, magnitude).astype(np.int8).view(np.uint8)
    return (magnitude | np.where(negative & (magnitude > 0), 0x80, 0)).astype(np.uint8)


def _pack(codes: Bytes, scales: Floats, payload_bytes: int) -> Bytes:
    num_chunks = len(codes)
    payload = np.zeros((num_chunks, payload_bytes), np.uint8)
    parts = (codes.reshape(num_chunks, -1), scales.view(np.uint8).reshape(num_chunks, -1))
    packed = np.concatenate(parts, axis=-1)
    payload[:, : packed.shape[1]] = packed
    return payload


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    bits = np.uint64(_BITS)
    x = (x ^ (x >> np.uint64(16))) * np.uint64(0x7FEB352D) & bits
    x = (x ^ (x >> np.uint64(15))) * np.uint64(0x846CA68B) & bits
    return x ^ (x >> np.uint64(16))
