"""Averages many gradients at once, each on the rank or ranks that need it.

One round is one all-to-all of bytes, in which every rank gets the chunks that it sums: 8-bit codes
of what is compressed and, side by side with them, plain values of what is not. If all ranks need
all means, an all-gather of the quantized means follows, and every rank, the one that made a mean
included, uses what was sent. While a round is on its way the next is quantized.

Plain values are summed in float32, in the order of the ranks, and rounded to their dtype once.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import distributed
from torch.nn import functional

from comm.compression import Compression, quantization_seed
from comm.torch import agreement
from comm.torch.errors import communicating
from comm.torch.zero_parts import Part, rounds
from comm.torch.zero_residuals import Residuals
from comm.wire import Wire, reduce_scatter_bytes
from kernels.quantize import torch_op

_FLOAT32_BYTES = 4


@dataclass(frozen=True)
class Plan:
    """What all rounds of a reduction share.

    Attributes:
        compression: How values travel.
        group: Of the ranks.
        multiplier: Of the sums: 1 / world_size for means.
        step: Counts reductions, for stochastic rounding.
        residuals: Of all parameters.
        wire: Counts what is sent.
        check: Compare with the other ranks what is to be sent, before it is.
    """

    compression: Compression
    group: distributed.ProcessGroup
    multiplier: float
    step: int
    residuals: Residuals
    wire: Wire
    check: bool

    @property
    def rank(self) -> int:
        """This one's, in the group."""
        return distributed.get_rank(self.group)

    @property
    def world_size(self) -> int:
        """Of the group."""
        return distributed.get_world_size(self.group)


def average_parts(parts: Sequence[Part], plan: Plan, *, everywhere: bool) -> None:
    """Replaces values by their means over the ranks.

    Args:
        parts: The same on every rank but for the values.
        plan: Of the reduction.
        everywhere: All ranks get all means, and all parts have a chunk for each rank; otherwise a
            rank gets the means of its chunks, and the rest of its values stay as they are.

    Raises:
        CommunicationError: A rank is gone or too slow.
        MismatchError: Ranks were about to send something else, or otherwise; only with `check`.
    """
    if not parts:
        return
    if plan.check:
        agreement.check(_describe(parts, plan), plan.group, parts[0].values.device)
    plan.residuals.prepare(parts, plan.rank, everywhere=everywhere)
    scattered: _InFlight | None = None
    gathered: _InFlight | None = None
    # Two rounds more than there are: the last are summed and read in them.
    for batch in itertools.chain(rounds(parts, plan.compression), (None, None)):
        following = None if batch is None else _scatter(batch, plan)
        summed = None
        if scattered is not None:
            if everywhere:
                summed = _sum_and_gather(scattered, plan)
            else:
                _sum(scattered, plan)
        if gathered is not None:
            _read(gathered, plan)
        scattered, gathered = following, summed
    _count_float32(parts, plan, everywhere=everywhere)


@dataclass(frozen=True)
class _InFlight:
    """Parts whose bytes are on their way: a row [bytes] from every rank, chunk beside chunk."""

    parts: Sequence[Part]
    work: distributed.Work
    received: torch.Tensor
    what: str

    def rows(self, plan: Plan) -> Iterator[tuple[Part, torch.Tensor]]:
        """Waits; yields the parts with their bytes, [world_size, row_bytes]."""
        with communicating(self.what, plan.group):
            self.work.wait()
        start = 0
        for part in self.parts:
            stop = start + part.row_bytes(plan.compression)
            yield part, self.received[:, start:stop].contiguous()
            start = stop


def _scatter(batch: Sequence[Part], plan: Plan) -> _InFlight:
    rows: list[list[torch.Tensor]] = [[] for _ in range(plan.world_size)]
    for part in batch:
        for rank, row in enumerate(_encode(part, plan), start=part.owner):
            rows[rank].append(row)
    mine = [part for part in batch if part.owned_by(plan.rank)]
    num_bytes = sum(part.row_bytes(plan.compression) for part in mine)
    sent = torch.cat([row for to_rank in rows for row in to_rank])
    received = sent.new_empty(plan.world_size, num_bytes)
    sizes = [sum(row.numel() for row in to_rank) for to_rank in rows]
    plan.wire.add(sent.numel() - sizes[plan.rank], 0.0)
    what = f"all-to-all of {sent.numel()} bytes"
    with communicating(what, plan.group):
        work = distributed.all_to_all_single(
            received.flatten(),
            sent,
            output_split_sizes=[num_bytes] * plan.world_size,
            input_split_sizes=sizes,
            group=plan.group,
            async_op=True,
        )
    return _InFlight(mine, work, received, what)


def _encode(part: Part, plan: Plan) -> torch.Tensor:
    """Returns the bytes of a part's chunks, [num_chunks, row_bytes]."""
    if part.compressed:
        return torch_op.quantize(
            part.values,
            plan.compression.codec,
            num_chunks=part.num_chunks,
            chunk_size=part.chunk_size,
            residual=plan.residuals.local(part),
            seed=quantization_seed(plan.compression, plan.step, 0, plan.rank),
            offset=plan.residuals.offset(part),
        )
    beyond = part.num_chunks * part.chunk_size - part.size
    return _plain_rows(functional.pad(part.values, (0, beyond)), part, plan)


def _plain_rows(values: torch.Tensor, part: Part, plan: Plan) -> torch.Tensor:
    """Returns whole chunks [n * chunk_size] as bytes [n, row_bytes]."""
    dtype = part.gradient.plain_dtype
    beyond = part.row_bytes(plan.compression) // dtype.itemsize - part.chunk_size
    chunks = values.to(dtype).view(-1, part.chunk_size)
    return functional.pad(chunks, (0, beyond)).view(torch.uint8)


def _sum(scattered: _InFlight, plan: Plan) -> None:
    for part, rows in scattered.rows(plan):
        mean = part.chunk(plan.rank)
        if not mean.numel():
            continue
        if part.compressed and mean.numel() == part.chunk_size:
            _reduce(rows, part, plan, out=mean)
        elif part.compressed:
            whole = torch.empty(part.chunk_size, dtype=mean.dtype, device=mean.device)
            mean.copy_(_reduce(rows, part, plan, out=whole)[: mean.numel()])
        else:
            mean.copy_(_sum_plain(rows, part, plan)[: mean.numel()])


def _reduce(rows: torch.Tensor, part: Part, plan: Plan, *, out: torch.Tensor) -> torch.Tensor:
    codec = plan.compression.codec
    return torch_op.reduce(rows, part.chunk_size, codec, multiplier=plan.multiplier, out=out)


def _sum_plain(rows: torch.Tensor, part: Part, plan: Plan) -> torch.Tensor:
    """Returns the mean [chunk_size] of plain values, float32."""
    total = torch.zeros(part.chunk_size, dtype=torch.float32, device=rows.device)
    for row in rows:
        total += row.view(part.gradient.plain_dtype)[: part.chunk_size]
    return total * plan.multiplier


def _sum_and_gather(scattered: _InFlight, plan: Plan) -> _InFlight:
    means = [_encode_mean(rows, part, plan) for part, rows in scattered.rows(plan)]
    sent = torch.cat(means, dim=1).flatten()
    received = sent.new_empty(plan.world_size, sent.numel())
    plan.wire.add((plan.world_size - 1) * sent.numel(), 0.0)
    what = f"all-gather of {received.numel()} bytes"
    with communicating(what, plan.group):
        work = distributed.all_gather_into_tensor(
            received.flatten(), sent, group=plan.group, async_op=True
        )
    return _InFlight(scattered.parts, work, received, what)


def _encode_mean(rows: torch.Tensor, part: Part, plan: Plan) -> torch.Tensor:
    """Returns the mean of this rank's chunk as bytes [1, row_bytes]."""
    if not part.compressed:
        return _plain_rows(_sum_plain(rows, part, plan), part, plan)
    return torch_op.reduce_quantize(
        rows,
        part.chunk_size,
        plan.compression.codec,
        multiplier=plan.multiplier,
        residual=plan.residuals.owned(part),
        # Rank 0 whoever sums: the noise of an element is to depend on nothing but its index.
        seed=quantization_seed(plan.compression, plan.step, 1, 0),
        offset=plan.residuals.offset(part) + plan.rank * part.chunk_size,
    )


def _read(gathered: _InFlight, plan: Plan) -> None:
    for part, rows in gathered.rows(plan):
        values = part.values
        if part.compressed:
            torch_op.dequantize(
                rows,
                part.size,
                plan.compression.codec,
                chunk_size=part.chunk_size,
                out=values,
            )
        else:
            chunks = rows.view(part.gradient.plain_dtype)[:, : part.chunk_size]
            values.copy_(chunks.flatten()[: part.size])


def _describe(parts: Sequence[Part], plan: Plan) -> str:
    """Returns all that ranks must have in common, the most telling first."""
    size = sum(part.size for part in parts)
    cuts = [
        (p.gradient.name, p.gradient.plain_dtype, p.start, p.stop, p.owner, p.chunk_size)
        for p in parts
    ]
    first, last = parts[0].gradient, parts[-1].gradient
    return (
        f"gradients {first.name} to {last.name}, {size} values in {len(parts)} parts, "
        f"times {plan.multiplier}, {plan.compression}: {cuts}"
    )


def _count_float32(parts: Sequence[Part], plan: Plan, *, everywhere: bool) -> None:
    num_bytes = _FLOAT32_BYTES * sum(part.size for part in parts)
    hops = 2 if everywhere else 1
    plan.wire.add(0.0, hops * reduce_scatter_bytes(num_bytes, plan.world_size))
