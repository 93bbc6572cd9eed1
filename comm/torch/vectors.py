"""What is exchanged, and who sums which values of it.

A vector is reduced as a whole: a parameter's gradient, or any flat tensor. It is cut into parts, in
equal chunks of which each belongs to the rank that sums it. Who that is, is said by who needs the
sums: where all ranks do, any even cut of whole blocks will do. DeepSpeed's stages 1 and 2 cut a
flat vector of many parameters without regard to where one ends, its stage 3 cuts every parameter
evenly.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from comm.compression import pieces
from comm.torch.feedback import Feedback
from comm.torch.parts import Part, Plan


@dataclass(frozen=True)
class Vector:
    """A gradient on this rank.

    Attributes:
        values: [n], contiguous. Sums replace them, or this rank's shares of them.
        plain_dtype: In which values travel as they are; None: as 8-bit codes.
        feedback: Residuals, of codes only; None: without error feedback.
        offset: Index of the first value in all that is reduced, for stochastic rounding.
        start: Index of the first value in the vector whose residuals `feedback` has: more than 0
            where a rank reduces a share of one.
        whole_size: Values in that vector; n unless given.
    """

    values: torch.Tensor
    plain_dtype: torch.dtype | None = None
    feedback: Feedback | None = None
    offset: int = 0
    start: int = 0
    whole_size: int | None = None

    @property
    def size(self) -> int:
        """Number of values."""
        return self.values.numel()

    def residuals(
        self, owned: Sequence[tuple[int, int, int]]
    ) -> tuple[torch.Tensor | None, Sequence[torch.Tensor | None]]:
        """Returns the residuals of the values [n], and those of the sums that this rank makes.

        Args:
            owned: Of each part (start, stop, size of the buffer) of the sums that are quantized.

        Raises:
            ValueError: The feedback is another vector's, or of one that was cut otherwise.
        """
        if self.plain_dtype is not None or self.feedback is None:
            return None, [None] * len(owned)
        spans = [(self.start + start, self.start + stop, size) for start, stop, size in owned]
        whole_size = self.size if self.whole_size is None else self.whole_size
        own = self.start, self.start + self.size
        return self.feedback.prepare(whole_size, own, spans, self.values.device)


class Share(NamedTuple):
    """Consecutive values whose sums one rank needs."""

    rank: int
    start: int
    stop: int


def for_all_ranks(vectors: Iterable[Vector], plan: Plan) -> Iterator[Part]:
    """Yields parts of vectors of which every rank needs all sums: a chunk for each rank."""
    for vector in vectors:
        cuts = list(pieces(plan.compression, vector.size))
        sizes = [_chunk_size(stop - start, vector, plan) for start, stop in cuts]
        spans = [
            (min(start + plan.rank * size, stop), min(start + (plan.rank + 1) * size, stop), size)
            for (start, stop), size in zip(cuts, sizes, strict=True)
        ]
        local, owned = vector.residuals(spans)
        for (start, stop), size, rest in zip(cuts, sizes, owned, strict=True):
            values = vector.values[start:stop]
            yield Part(
                values,
                values,
                owner=0,
                num_chunks=plan.world_size,
                chunk_size=size,
                plain_dtype=vector.plain_dtype,
                offset=vector.offset + start,
                local=None if local is None else local[start:stop],
                owned=rest,
            )


def _chunk_size(size: int, vector: Vector, plan: Plan) -> int:
    if vector.plain_dtype is not None:
        return -(-size // plan.world_size)
    return plan.codec.chunk_size(size, plan.world_size)


def for_owners(
    vectors: Iterable[tuple[Vector, Iterable[Share]]],
    plan: Plan,
    results: Sequence[torch.Tensor] | None = None,
) -> list[Part]:
    """Returns parts of vectors of which each rank needs the sums of some runs of values.

    Args:
        vectors: Each with the runs.
        plan: Of the exchange.
        results: For each vector, where the sums of this rank's only run go; over the values unless
            given.

    Returns:
        The parts, ordered so that those sent together go to all ranks, if they can.
    """
    blocks = plan.compression.piece_size // plan.codec.block_size // plan.world_size
    step = max(blocks, 1) * plan.codec.block_size
    parts: list[tuple[int, Part]] = []
    size_for = Counter[int]()
    for i, (vector, shares) in enumerate(vectors):
        local, _ = vector.residuals(())
        for rank, begin, end in shares:
            result = vector.values[begin:end]
            if results is not None and rank == plan.rank:
                result = results[i]
            for start in range(begin, end, step):
                stop = min(start + step, end)
                part = _owned(
                    vector, local, start, stop, rank, result[start - begin : stop - begin]
                )
                parts.append((size_for[rank], part))
                size_for[rank] += part.size
    return [part for _, part in sorted(parts, key=lambda keyed: keyed[0])]


def _owned(
    vector: Vector,
    local: torch.Tensor | None,
    start: int,
    stop: int,
    rank: int,
    result: torch.Tensor,
) -> Part:
    return Part(
        vector.values[start:stop],
        result,
        owner=rank,
        num_chunks=1,
        chunk_size=stop - start,
        plain_dtype=vector.plain_dtype,
        offset=vector.offset + start,
        local=None if local is None else local[start:stop],
    )


def for_even_owners(vectors: Iterable[Vector], plan: Plan) -> list[Part]:
    """Returns parts of vectors of which rank r needs the r-th of equal runs, as in stage 3."""
    parts = []
    for vector in vectors:
        shares = even_shares(vector.size, plan.world_size)
        if vector.size > plan.compression.piece_size:
            parts += for_owners([(vector, shares)], plan)
            continue
        local, _ = vector.residuals(())
        own = shares[plan.rank]
        parts.append(
            Part(
                vector.values,
                vector.values[own.start : own.stop],
                owner=0,
                num_chunks=plan.world_size,
                chunk_size=shares[0].stop,
                plain_dtype=vector.plain_dtype,
                offset=vector.offset,
                local=local,
            )
        )
    return parts


def even_shares(size: int, world_size: int, alignment: int = 1) -> list[Share]:
    """Returns equal runs of `size` values, one a rank; the last ones may be shorter or empty.

    Args:
        size: Number of values.
        world_size: Number of ranks.
        alignment: Runs start at multiples of it.
    """
    length = -(-size // (world_size * alignment)) * alignment
    return [
        Share(rank, min(rank * length, size), min((rank + 1) * length, size))
        for rank in range(world_size)
    ]
