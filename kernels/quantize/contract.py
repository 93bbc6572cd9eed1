"""What blockwise 8-bit quantization is, the same for every backend and both frameworks.

A flat array is cut into chunks (what one rank sends to another), a chunk into blocks of
`block_size` values. A block is stored as one byte a value, its codes, and one float32, its scale.
All of a chunk's codes and then all of its scales are the chunk's payload: one row of bytes that a
collective can send at once. `reference.py` says what the codes are.
"""

import math
import os
from typing import NamedTuple

from kernels import arguments
from kernels.dispatch import Support, explain_backends, select_backend


class Format(NamedTuple):
    """What a byte stands for.

    Attributes:
      name: numpy's and both frameworks' name of the dtype.
      max_value: the largest value; the block's largest magnitude is scaled to it.
      mantissa_bits: of a float; 0 for an integer.
      min_exponent: the exponent of the smallest normal float; 0 for an integer.
    """

    name: str
    max_value: float
    mantissa_bits: int
    min_exponent: int


# In the order of the native code's Format.
FORMATS = (
    Format("int8", 127.0, 0, 0),
    Format("float8_e4m3fn", 448.0, 3, -6),
    Format("float8_e5m2", 57344.0, 2, -14),
)
FORMAT_NAMES = tuple(f.name for f in FORMATS)

# In the order of the native code's Rounding.
ROUNDINGS = ("nearest", "stochastic")

BLOCK_SIZES = (64, 128, 256, 512, 1024, 2048, 4096)

# What the fields of a Codec may be.
_CODEC_VALUES = range(len(FORMATS)), range(len(ROUNDINGS)), BLOCK_SIZES

# The least scale of a block that is not all zeros, the smallest normal float32: neither a scale nor
# its inverse leaves the normal numbers. Codes of smaller blocks do not reach the largest value.
MIN_SCALE = 2.0**-126

# Scales are those of magnitudes up to this one, the second largest float32: so that no product of a
# code and a scale overflows, where the scale was rounded up.
MAX_MAGNITUDE = 2.0**128 - 2.0**105

# Rows of payload start at multiples of it, for vector loads.
PAYLOAD_ALIGNMENT = 16

SCALE_BYTES = 4

# The devices and dtypes of each backend; the dtype is that of the values, not of the codes.
_DTYPES = frozenset({"float16", "bfloat16", "float32"})
SUPPORT: Support = {
    "cpu": {"cpu": _DTYPES},
    "triton": {"cuda": _DTYPES},
    "reference": {"cpu": _DTYPES},
}
if os.environ.get("TRITON_INTERPRET") == "1":
    # Triton's interpreter, for tests.
    SUPPORT = {**SUPPORT, "triton": {"cpu": _DTYPES}}


class Codec(NamedTuple):
    """How values become bytes. Make one with `codec`, which checks.

    Attributes:
      format: index in FORMATS.
      rounding: index in ROUNDINGS.
      block_size: values that share a scale, one of BLOCK_SIZES.
    """

    format: int
    rounding: int
    block_size: int

    def chunk_size(self, size: int, num_chunks: int) -> int:
        """Returns how many values each of `num_chunks` chunks of whole blocks takes of `size`.

        The last chunks may reach beyond the end, or be wholly beyond it.
        """
        blocks = -(-size // self.block_size)
        return -(-blocks // num_chunks) * self.block_size

    def padded_size(self, chunk_size: int) -> int:
        """Returns the number of codes in the payload of a chunk: its values, in whole blocks."""
        return -(-chunk_size // self.block_size) * self.block_size

    def payload_bytes(self, chunk_size: int) -> int:
        """Returns the bytes in the payload of a chunk.

        For int8 in blocks of 256 that is 0.254 of the chunk in float32, 0.508 of it in bfloat16.
        """
        codes = self.padded_size(chunk_size)
        unaligned = codes + codes // self.block_size * SCALE_BYTES
        return -(-unaligned // PAYLOAD_ALIGNMENT) * PAYLOAD_ALIGNMENT


def codec(
    format: str = "int8",
    *,
    block_size: int = 256,
    rounding: str = "nearest",
) -> Codec:
    """Returns a codec.

    Args:
      format: one of FORMAT_NAMES.
      block_size: values that share a scale, one of BLOCK_SIZES.
      rounding: "nearest", ties to even; or "stochastic", up or down with the probabilities that
        make the mean right.

    Raises:
      TypeError: an argument is not of its type.
      ValueError: an argument is none of these.
    """
    for what, name in (("format", format), ("rounding", rounding)):
        if not isinstance(name, str):
            raise TypeError(f"{what} must be a str, got {arguments.given(name)}")
    block_size = arguments.integer("block_size", block_size)
    choices: tuple[tuple[str, str | int, tuple[str | int, ...]], ...] = (
        ("format", format, FORMAT_NAMES),
        ("block_size", block_size, BLOCK_SIZES),
        ("rounding", rounding, ROUNDINGS),
    )
    for what, value, accepted in choices:
        if value not in accepted:
            raise ValueError(
                f"{what} must be one of {', '.join(map(str, accepted))}, got {value!r}"
            )
    return Codec(FORMAT_NAMES.index(format), ROUNDINGS.index(rounding), block_size)


DEFAULT_CODEC = codec()


class Layout(NamedTuple):
    """How the values of one array lie in its payload, in the order of the native code.

    Attributes:
      size: values in the array.
      num_chunks: rows of the payload.
      chunk_size: values in a chunk; chunk i takes the values from i * chunk_size on. What lies
        beyond `size` is coded as zeros.
    """

    size: int
    num_chunks: int
    chunk_size: int


def check_codec(codec: Codec) -> None:
    """Raises TypeError or ValueError unless it is a codec, made by `codec` or as if it were."""
    if not isinstance(codec, Codec):
        raise TypeError(f"codec must be a Codec, got {arguments.given(codec)}")
    for name, value, accepted in zip(Codec._fields, codec, _CODEC_VALUES, strict=True):
        # Each compared by itself: torch.compile finds no symbolic number by `in`.
        if all(value != x for x in accepted):
            raise ValueError(
                f"{name} of a Codec must be one of {', '.join(map(str, accepted))}, got {value!r}"
            )


def check_seed(seed: int) -> int:
    """Returns the 32 bits of a seed that count.

    Raises:
      TypeError: it is not an integer.
    """
    return arguments.integer("seed", seed) & 0xFFFFFFFF


def check_layout(codec: Codec, size: int, num_chunks: int, chunk_size: int | None) -> Layout:
    """Returns the layout of `size` values in `num_chunks` chunks.

    Raises:
      TypeError: an argument is not of its type.
      ValueError: num_chunks is not positive, or the chunks cannot hold all values.
    """
    check_codec(codec)
    size = arguments.integer("size", size, at_least=0)
    num_chunks = arguments.integer("num_chunks", num_chunks, at_least=1)
    if chunk_size is None:
        chunk_size = codec.chunk_size(size, num_chunks)
    chunk_size = arguments.integer("chunk_size", chunk_size, or_else=" or None")
    if chunk_size < 0 or chunk_size * num_chunks < size:
        raise ValueError(
            f"{num_chunks} chunks of chunk_size {chunk_size} cannot hold {size} values"
        )
    return Layout(size, num_chunks, chunk_size)


def check_payload_rank(shape: tuple[int, ...]) -> None:
    """Raises ValueError unless a payload has rows."""
    if len(shape) != 2:
        raise ValueError(f"payload must be [num_chunks, payload_bytes], got shape {shape}")


def check_payload(shape: tuple[int, ...], dtype: str, codec: Codec, layout: Layout) -> None:
    """Raises TypeError or ValueError unless this is the payload of a layout."""
    if dtype != "uint8":
        raise TypeError(f"payload must be uint8, got {dtype}")
    want = (layout.num_chunks, codec.payload_bytes(layout.chunk_size))
    if tuple(shape) != want:
        raise ValueError(
            f"the payload of {layout.size} values in {layout.num_chunks} chunks of "
            f"{layout.chunk_size} in blocks of {codec.block_size} must be {want}, got shape "
            f"{tuple(shape)}"
        )


def check_residual(shape: tuple[int, ...], dtype: str, size: int) -> None:
    """Raises TypeError or ValueError unless a residual is float32 and has `size` values."""
    if dtype != "float32":
        raise TypeError(f"residual must be float32, got {dtype}")
    if math.prod(shape) != size:
        raise ValueError(f"residual must have {size} values, got shape {tuple(shape)}")


def check_sum(shape: tuple[int, ...], dtype: str, codec: Codec, size: int) -> Layout:
    """Returns the layout of payloads to sum, each of one chunk of `size` values.

    Raises:
      TypeError, ValueError: they are not that, or there are none.
    """
    check_codec(codec)
    size = arguments.integer("size", size, at_least=0)
    if len(shape) != 2 or shape[0] < 1:
        raise ValueError(
            f"payloads must be [at least 1, {codec.payload_bytes(size)}], got shape {tuple(shape)}"
        )
    layout = Layout(size, shape[0], size)
    check_payload(shape, dtype, codec, layout)
    return layout


def check_offset(offset: int) -> int:
    """Returns the offset.

    Raises:
      TypeError: it is not an integer.
      ValueError: it is negative or does not fit in 63 bits.
    """
    offset = arguments.integer("offset", offset)
    if not 0 <= offset < 2**63:
        raise ValueError(f"offset must be from 0 to 2^63 - 1, got {offset}")
    return offset


def check_multiplier(multiplier: float) -> float:
    """Returns the multiplier of a sum as a float.

    Raises:
      TypeError: it is not a Python number.
      ValueError: it is not finite.
    """
    return arguments.real("multiplier", multiplier)


def select(device: str, dtype: str) -> str:
    """Returns the backend for values of a dtype; see `kernels.dispatch.select_backend`.

    Raises:
      UnsupportedKernelError: no backend serves it.
    """
    return select_backend("quantize", SUPPORT, device=device, dtype=dtype)


def explain(device: str, dtype: str) -> str:
    """Returns a line for each backend: whether and why it serves values of a dtype.

    Raises:
      UnsupportedKernelError: no backend serves it.
    """
    backend = select(device, dtype)
    return explain_backends("quantize", SUPPORT, backend, device=device, dtype=dtype)
