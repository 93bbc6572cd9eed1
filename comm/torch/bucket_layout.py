"""How the gradients of one of DistributedDataParallel's buckets are sent.

Large parameters are sent from where they lie. Small ones are gathered in one vector, each from a
block's beginning, so that no block holds values of two. The others, biases and such, are gathered
in float32 and not compressed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from comm.compression import Compression, compresses
from comm.torch import workspace
from comm.torch.relayout import Part
from comm.torch.uncompressed import float32_buffer

# Values from which on copying a parameter costs more than sending it by itself.
_LARGE = 2**16


@dataclass(frozen=True)
class Vector:
    """What one call compresses.

    Attributes:
        size: Values, gaps between parameters included.
        parts: Its parameters.
        sources: Where each starts in the bucket.
        in_place: Whether it is one parameter, sent from the bucket.
    """

    size: int
    parts: tuple[Part, ...]
    sources: tuple[int, ...]
    in_place: bool


@dataclass(frozen=True)
class BucketLayout:
    """A bucket's vectors, and what of it is not compressed.

    Attributes:
        vectors: What is compressed.
        plain: (start, size) in the bucket of what is not.
        plain_size: Values in all of `plain`, and zeros up to a multiple of the number of ranks.
        num_zeros: What these and the gaps between parameters add to what is sent: in `plain` and
            in `vectors`.
    """

    vectors: tuple[Vector, ...]
    plain: tuple[tuple[int, int], ...]
    plain_size: int
    num_zeros: tuple[int, int]

    def take(self, bucket: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Returns what is not compressed, in float32, and the vectors.

        They are views of the bucket or this thread's buffers, to be given to `put_back`.
        """
        plain = float32_buffer("plain", self.plain_size, bucket.device)
        end = 0
        for start, size in self.plain:
            plain[end : end + size].copy_(bucket[start : start + size])
            end += size
        plain[end:].zero_()
        return plain, [_take(vector, bucket) for vector in self.vectors]

    def put_back(
        self, bucket: torch.Tensor, plain: torch.Tensor, vectors: Sequence[torch.Tensor]
    ) -> None:
        """Writes what `take` returned, now reduced, into the bucket."""
        end = 0
        for start, size in self.plain:
            bucket[start : start + size].copy_(plain[end : end + size])
            end += size
        for vector, values in zip(self.vectors, vectors, strict=True):
            if vector.in_place:
                continue
            for part, source in zip(vector.parts, vector.sources, strict=True):
                bucket[source : source + part.size].copy_(
                    values[part.offset : part.offset + part.size]
                )


def bucket_layout(
    compression: Compression, parameters: Mapping[str, tuple[int, ...]], world_size: int
) -> BucketLayout:
    """Returns the layout of a bucket of parameters, given by name and shape, in its order."""
    plain, large, small, sources = [], [], [], []
    block_size = compression.codec.block_size
    start = gathered = 0
    for name, shape in parameters.items():
        size = torch.Size(shape).numel()
        if not compresses(compression, shape):
            plain.append((start, size))
        elif size >= _LARGE:
            large.append(Vector(size, (Part(name, 0, size),), (start,), in_place=True))
        else:
            small.append(Part(name, gathered, size))
            sources.append(start)
            gathered += -(-size // block_size) * block_size
        start += size
    if small:
        large.append(Vector(gathered, tuple(small), tuple(sources), in_place=False))
    num_plain = sum(size for _, size in plain)
    plain_size = -(-num_plain // world_size) * world_size
    num_zeros = (plain_size - num_plain, gathered - sum(part.size for part in small))
    return BucketLayout(tuple(large), tuple(plain), plain_size, num_zeros)


def _take(vector: Vector, bucket: torch.Tensor) -> torch.Tensor:
    if vector.in_place:
        return bucket[vector.sources[0] : vector.sources[0] + vector.size]
    num_bytes = bucket.element_size() * vector.size
    values = workspace.buffer("stage", num_bytes, bucket.device).view(bucket.dtype)
    values.zero_()  # the gaps: an earlier NaN may have filled them
    for part, source in zip(vector.parts, vector.sources, strict=True):
        values[part.offset : part.offset + part.size].copy_(bucket[source : source + part.size])
    return values
