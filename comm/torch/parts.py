"""What is exchanged at once, and how: the arguments of exchange.py."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import distributed
from torch.nn import functional

from comm.compression import Compression, quantization_seed
from comm.wire import Wire
from kernels.quantize.contract import PAYLOAD_ALIGNMENT, Codec


@dataclass(frozen=True)
class Part:
    """Consecutive values of a gradient, in equal chunks.

    Attributes:
        values: [size], contiguous.
        result: Where sums go: of an all-reduce all of them, [size]; of a reduce-scatter those of
            this rank's chunk, without what lies beyond the end.
        owner: The rank that sums the first chunk; the next rank sums the next.
        num_chunks: Number of chunks, size / chunk_size rounded up or more.
        chunk_size: Values in a chunk; the last ones may lie beyond the end, in part or entirely.
        plain_dtype: In which values travel as they are; None: as 8-bit codes.
        offset: Index of the first value in all that is reduced, for stochastic rounding.
        local: Residual [size] of this rank's values, or None.
        owned: Residual [chunk_size] of the sums that this rank makes, or None.
        members: The parts that this one stands for; see joint.py.
    """

    values: torch.Tensor
    result: torch.Tensor
    owner: int
    num_chunks: int
    chunk_size: int
    plain_dtype: torch.dtype | None = None
    offset: int = 0
    local: torch.Tensor | None = None
    owned: torch.Tensor | None = None
    members: Sequence["Part"] = ()

    @property
    def size(self) -> int:
        """Number of values."""
        return self.values.numel()

    @property
    def num_values(self) -> int:
        """Number of values without those that lie between the parts that this one stands for."""
        return sum(part.size for part in self.members) if self.members else self.size

    @property
    def owners(self) -> range:
        """The ranks that sum a chunk each."""
        return range(self.owner, self.owner + self.num_chunks)

    def chunks(self, vector: torch.Tensor) -> torch.Tensor:
        """Returns a vector [size] with zeros beyond the end, [num_chunks, chunk_size]."""
        beyond = self.num_chunks * self.chunk_size - self.size
        padded = functional.pad(vector, (0, beyond)) if beyond else vector
        return padded.view(self.num_chunks, self.chunk_size)

    def row_bytes(self, codec: Codec) -> int:
        """Bytes that one chunk takes on the wire."""
        if self.plain_dtype is None:
            return codec.payload_bytes(self.chunk_size)
        num_bytes = self.chunk_size * self.plain_dtype.itemsize
        return -(-num_bytes // PAYLOAD_ALIGNMENT) * PAYLOAD_ALIGNMENT


@dataclass(frozen=True)
class Plan:
    """What all parts of a call share.

    Attributes:
        compression: How values travel; its `ranks_per_node` is not heeded, see nodes.py.
        group: Of the ranks.
        average: Whether results are means, or sums.
        step: Number of the reduction, for the seeds of stochastic rounding.
        wire: Counts what this rank sends.
        rank: This one's, in the group.
        world_size: Of the group.
    """

    compression: Compression
    group: distributed.ProcessGroup
    average: bool = True
    step: int = 0
    wire: Wire = field(default_factory=Wire)
    rank: int = field(init=False)
    world_size: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rank", distributed.get_rank(self.group))
        object.__setattr__(self, "world_size", distributed.get_world_size(self.group))

    @property
    def codec(self) -> Codec:
        """How values become bytes."""
        return self.compression.codec

    @property
    def multiplier(self) -> float:
        """Of the sums."""
        return 1.0 / self.world_size if self.average else 1.0

    def seed(self, hop: int) -> int:
        """Returns the seed of this rank's quantizations before (0) and after (1) the sums."""
        # Rank 0 whoever sums: the noise of an element is to depend on nothing but its index.
        return quantization_seed(self.compression, self.step, hop, 0 if hop else self.rank)
