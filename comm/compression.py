"""What is compressed, how, and in which pieces: the part that both frameworks must agree on."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from kernels.quantize.contract import DEFAULT_CODEC, Codec

_FLOAT32_BYTES = 4


@dataclass(frozen=True)
class Compression:
    """How gradients travel between ranks.

    Attributes:
        codec: How values become bytes.
        error_feedback: Keep what quantization loses and add it to the next step's gradient.
        min_size: Tensors of fewer values are sent as they are, as are all of one dimension.
        bucket_bytes: Of float32 values that are sent at once, while the next are quantized.
        ranks_per_node: Ranks that share fast links and exchange full precision among themselves;
            None: all links are alike.
        seed: Of stochastic rounding.
    """

    codec: Codec = DEFAULT_CODEC
    error_feedback: bool = True
    min_size: int = 1024
    bucket_bytes: int = 4 * 2**20
    ranks_per_node: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.min_size < 0:
            raise ValueError(f"min_size must not be negative, got {self.min_size}")
        if self.bucket_bytes < _FLOAT32_BYTES * self.codec.block_size:
            raise ValueError(
                f"bucket_bytes must hold a block of {self.codec.block_size} float32 values, "
                f"{_FLOAT32_BYTES * self.codec.block_size} bytes, got {self.bucket_bytes}"
            )
        if self.ranks_per_node is not None and self.ranks_per_node < 1:
            raise ValueError(f"ranks_per_node must be at least 1, got {self.ranks_per_node}")

    @property
    def piece_size(self) -> int:
        """Values in a piece: as many whole blocks as `bucket_bytes` holds."""
        blocks = self.bucket_bytes // (_FLOAT32_BYTES * self.codec.block_size)
        return blocks * self.codec.block_size


def compresses(compression: Compression, shape: tuple[int, ...]) -> bool:
    """Whether a gradient of this shape is compressed.

    Biases and the scales of norms are not: they are few, and most of the error would be theirs.
    """
    return len(shape) > 1 and math.prod(shape) >= compression.min_size


def pieces(compression: Compression, size: int) -> Iterator[tuple[int, int]]:
    """Yields (start, stop) of each piece of a flat vector of `size` values, in order."""
    step = compression.piece_size
    for start in range(0, size, step):
        yield start, min(start + step, size)


def quantization_seed(compression: Compression, step: int, hop: int, rank: int) -> int:
    """Returns the seed of one quantization, in [0, 2^32).

    Args:
        compression: Whose seed counts.
        step: Of training, counted from 0.
        hop: 0 before values are sent to the rank that sums them, 1 after.
        rank: Who quantizes, of hop 0; of hop 1 always 0, so that the noise of an element does not
            depend on the number of ranks.
    """
    seed = 0
    for part in (compression.seed, step, hop, rank):
        seed = _mix((seed + 0x9E3779B9 * (part + 1)) & 0xFFFFFFFF)
    return seed


def _mix(x: int) -> int:
    """lowbias32 of Wellons, "Prospecting for Hash Functions", 2018."""
    x = (x ^ (x >> 16)) * 0x7FEB352D & 0xFFFFFFFF
    x = (x ^ (x >> 15)) * 0x846CA68B & 0xFFFFFFFF
    return x ^ (x >> 16)
