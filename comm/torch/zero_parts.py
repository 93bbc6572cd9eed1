"""What of a gradient travels together, and to whom, under each stage of ZeRO.

A part is a run of values of one parameter, in equal chunks of which each belongs to the rank that
sums it. Who that is, is DeepSpeed's to say: stages 1 and 2 cut a flat vector of many parameters
without regard to where one ends, stage 3 cuts every parameter evenly. Without partitions any even
cut will do.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from comm.compression import Compression, compresses, pieces
from kernels.quantize.contract import PAYLOAD_ALIGNMENT


@dataclass(frozen=True)
class Gradient:
    """A parameter's gradient on this rank.

    Attributes:
        name: Of the parameter.
        shape: Of the parameter.
        values: [n], contiguous. The mean over the ranks replaces it, or this rank's share of it.
        plain_dtype: In which values travel that are not compressed.
    """

    name: str
    shape: tuple[int, ...]
    values: torch.Tensor
    plain_dtype: torch.dtype


@dataclass(frozen=True)
class Part:
    """Consecutive values of a gradient.

    Attributes:
        gradient: Of which these are values.
        start: Index of the first.
        stop: Index after the last.
        owner: The rank that sums the first chunk; the next rank sums the next.
        num_chunks: Number of chunks, (stop - start) / chunk_size rounded up or more.
        chunk_size: Values in a chunk; the last ones may lie beyond the end, in part or entirely.
        compressed: Whether 8-bit codes are sent, or values as they are.
    """

    gradient: Gradient
    start: int
    stop: int
    owner: int
    num_chunks: int
    chunk_size: int
    compressed: bool

    @property
    def size(self) -> int:
        """Number of values."""
        return self.stop - self.start

    @property
    def values(self) -> torch.Tensor:
        """The values [size], a view."""
        return self.gradient.values[self.start : self.stop]

    def row_bytes(self, compression: Compression) -> int:
        """Bytes that one chunk takes on the wire."""
        if self.compressed:
            return compression.codec.payload_bytes(self.chunk_size)
        num_bytes = self.chunk_size * self.gradient.plain_dtype.itemsize
        return -(-num_bytes // PAYLOAD_ALIGNMENT) * PAYLOAD_ALIGNMENT

    def owned_by(self, rank: int) -> bool:
        """Whether a rank sums one of the chunks."""
        return self.owner <= rank < self.owner + self.num_chunks

    def chunk(self, rank: int) -> torch.Tensor:
        """Returns a rank's chunk, without what lies beyond the end."""
        start = (rank - self.owner) * self.chunk_size
        return self.values[start : start + self.chunk_size]


def replicated_parts(
    gradients: Iterable[Gradient], compression: Compression, world_size: int
) -> list[Part]:
    """Returns parts for gradients that every rank needs: pieces, in a chunk for each rank."""
    parts = []
    for gradient in gradients:
        compressed = compresses(compression, gradient.shape)
        for start, stop in pieces(compression, gradient.values.numel()):
            chunk_size = -(-(stop - start) // world_size)
            if compressed:
                chunk_size = compression.codec.chunk_size(stop - start, world_size)
            parts.append(Part(gradient, start, stop, 0, world_size, chunk_size, compressed))
    return parts


def evenly_owned_parts(
    gradients: Iterable[Gradient], compression: Compression, world_size: int
) -> list[Part]:
    """Returns parts for gradients of which rank r needs the r-th chunk, as in stage 3."""
    parts = []
    for gradient in gradients:
        size = gradient.values.numel()
        chunk_size = -(-size // world_size)
        if size <= compression.piece_size:
            compressed = compresses(compression, gradient.shape)
            parts.append(Part(gradient, 0, size, 0, world_size, chunk_size, compressed))
            continue
        shares = [
            (rank, min(rank * chunk_size, size), min((rank + 1) * chunk_size, size))
            for rank in range(world_size)
        ]
        parts += owned_parts([(gradient, shares)], compression, world_size)
    return parts


def owned_parts(
    gradients: Iterable[tuple[Gradient, Iterable[tuple[int, int, int]]]],
    compression: Compression,
    world_size: int,
) -> list[Part]:
    """Returns parts for gradients of which each rank needs some runs of values.

    Args:
        gradients: Each with (rank, start, stop) of the runs.
        compression: Says how long parts may be.
        world_size: Number of ranks.

    Returns:
        The parts, ordered so that those sent together go to all ranks, if they can.
    """
    blocks = compression.piece_size // compression.codec.block_size // world_size
    step = max(blocks, 1) * compression.codec.block_size
    parts: list[tuple[int, Part]] = []
    size_for = Counter[int]()
    for gradient, shares in gradients:
        compressed = compresses(compression, gradient.shape)
        for rank, begin, end in shares:
            for start in range(begin, end, step):
                stop = min(start + step, end)
                part = Part(gradient, start, stop, rank, 1, stop - start, compressed)
                parts.append((size_for[rank], part))
                size_for[rank] += part.size
    return [part for _, part in sorted(parts, key=lambda keyed: keyed[0])]


def rounds(parts: Iterable[Part], compression: Compression) -> Iterator[list[Part]]:
    """Yields the parts in lists of `compression.piece_size` values or little more."""
    batch: list[Part] = []
    size = 0
    for part in parts:
        batch.append(part)
        size += part.size
        if size >= compression.piece_size:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
