"""The exchange: sums of many gradients at once, each to the rank or ranks that need it.

    quantize     each rank its own values, with what it lost of them before
    all-to-all   each chunk to the rank that sums it
    sum          in float32, in the order of the ranks
    quantize     the sums, with what was lost of them before  }
    gather       each rank's sums to all                      }  of an all-reduce only
    read

So values are quantized twice, however many ranks there are, and every rank, the one that made a sum
included, uses what was sent of it: all end with the same bits. A reduce-scatter quantizes once.
What is not to be compressed travels beside the codes, as it is.

Work is done in rounds: while one is on its way the next is quantized and the one before is summed.
Chunks are whole blocks, or the owner's alone, so what comes out depends neither on rounds nor on
which rank sums what.

`vectors.py` cuts gradients into the parts that are exchanged here; `comm.jax.exchange` is the twin.

Reference: all-to-all, sum, all-gather as in Wang et al., "ZeRO++", 2023, arXiv:2306.10209; two
quantizations with a residual each as in Tang et al., "DoubleSqueeze", 2019, arXiv:1905.05957.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import distributed

from comm.compression import Compression
from comm.torch import joint, workspace
from comm.torch.errors import communicating
from comm.torch.parts import Part, Plan
from comm.wire import reduce_scatter_bytes
from kernels.quantize import torch_op

_FLOAT32_BYTES = 4

# Rounds after which a buffer is used again: one is quantized while one is on its way.
_SLOTS = 2


def nothing() -> None:
    """For ranks that have agreed before, or need not."""


def all_reduce(parts: Iterable[Part], plan: Plan, agreed: Callable[[], None] = nothing) -> None:
    """Writes the sums or means of all values to every rank's results.

    Args:
        parts: The same on every rank but for the values, with a chunk for each rank. A result may
            be the values' own memory.
        plan: Of the call.
        agreed: Called once, when the first round is quantized, before anything is sent.

    Raises:
        CommunicationError: A rank is gone or too slow.
    """
    _exchange(parts, plan, agreed, everywhere=True)


def reduce_scatter(parts: Iterable[Part], plan: Plan, agreed: Callable[[], None] = nothing) -> None:
    """Writes the sums or means of each chunk to the result of the rank that owns it.

    Args:
        parts: The same on every rank but for the values. A result may be the values' own memory.
        plan: Of the call.
        agreed: As for `all_reduce`.

    Raises:
        CommunicationError: A rank is gone or too slow.
    """
    _exchange(parts, plan, agreed, everywhere=False)


def _exchange(
    parts: Iterable[Part], plan: Plan, agreed: Callable[[], None], *, everywhere: bool
) -> None:
    scattered: _InFlight | None = None
    gathered: _InFlight | None = None
    try:
        # Two more than there are: the last are summed and read in them.
        rounds = _rounds(parts, plan.compression)
        if everywhere:
            rounds = (joint.join(batch, plan.codec) for batch in rounds)
        for i, batch in enumerate(itertools.chain(rounds, (None, None))):
            packed = None if batch is None else _pack(batch, i % _SLOTS, plan)
            if i == 0:
                agreed()
            following = None if packed is None else _scatter(packed, i % _SLOTS, plan)
            summed = None
            if scattered is not None:
                _count_float32(scattered.batch, plan, everywhere=everywhere)
                if everywhere:
                    summed = _sum_and_gather(scattered, plan)
                else:
                    _sum(scattered, plan)
            if gathered is not None:
                _read(gathered, plan)
            scattered, gathered = following, summed
    except BaseException:
        workspace.forget()
        raise


def _rounds(parts: Iterable[Part], compression: Compression) -> Iterator[Sequence[Part]]:
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


@dataclass(frozen=True)
class _Packed:
    """What a rank sends in a round: to each rank its chunks, one beside the other."""

    batch: Sequence[Part]
    sent: torch.Tensor
    bytes_to: Sequence[int]


@dataclass(frozen=True)
class _InFlight:
    """Parts whose bytes are on their way: a row from every rank, chunk beside chunk."""

    batch: Sequence[Part]
    slot: int
    work: distributed.Work
    received: torch.Tensor
    what: str

    def chunks(self, parts: Iterable[Part], plan: Plan) -> Iterator[tuple[Part, torch.Tensor]]:
        """Waits; yields the parts with their bytes, [world_size, row_bytes]."""
        with communicating(self.what, plan.group):
            self.work.wait()
        start = 0
        for part in parts:
            stop = start + part.row_bytes(plan.codec)
            yield part, self.received[:, start:stop].contiguous()
            start = stop


def _pack(batch: Sequence[Part], slot: int, plan: Plan) -> _Packed:
    """Encodes all parts of a round."""
    bytes_to = [0] * plan.world_size
    places = []
    for part in batch:
        places.append([bytes_to[rank] for rank in part.owners])
        for rank in part.owners:
            bytes_to[rank] += part.row_bytes(plan.codec)
    starts = [0, *itertools.accumulate(bytes_to)]
    sent = workspace.buffer(f"send {slot}", starts[-1], batch[0].values.device)
    for part, place in zip(batch, places, strict=True):
        rows = [starts[rank] + at for rank, at in zip(part.owners, place, strict=True)]
        _encode(part, sent, rows, plan)
    return _Packed(batch, sent, bytes_to)


def _encode(part: Part, sent: torch.Tensor, rows: Sequence[int], plan: Plan) -> None:
    """Writes the bytes of a part's chunks to where they start in what is sent."""
    row_bytes = part.row_bytes(plan.codec)
    there = sent[rows[0] : rows[-1] + row_bytes]
    adjacent = there.numel() == part.num_chunks * row_bytes
    encoded = there if adjacent else sent.new_empty(part.num_chunks * row_bytes)
    encoded = encoded.view(part.num_chunks, row_bytes)
    if part.plain_dtype is None:
        torch_op.quantize(
            part.values,
            plan.codec,
            num_chunks=part.num_chunks,
            chunk_size=part.chunk_size,
            residual=part.local,
            seed=plan.seed(0),
            offset=part.offset,
            out=encoded,
        )
        joint.give_back_local(part)
    else:
        _plain(encoded, part).copy_(part.chunks(part.values))
    if not adjacent:
        for start, row in zip(rows, encoded, strict=True):
            sent[start : start + row_bytes] = row


def _plain(rows: torch.Tensor, part: Part) -> torch.Tensor:
    """Returns rows of bytes as the values that they are, [num_rows, chunk_size], a view."""
    assert part.plain_dtype is not None
    return rows.view(part.plain_dtype)[:, : part.chunk_size]


def _scatter(packed: _Packed, slot: int, plan: Plan) -> _InFlight:
    sent, mine = packed.sent, packed.bytes_to[plan.rank]
    received = workspace.buffer(f"receive {slot}", plan.world_size * mine, sent.device)
    plan.wire.add(sent.numel() - mine, 0.0)
    what = f"all-to-all of {sent.numel()} bytes"
    with communicating(what, plan.group):
        work = distributed.all_to_all_single(
            received,
            sent,
            output_split_sizes=[mine] * plan.world_size,
            input_split_sizes=list(packed.bytes_to),
            group=plan.group,
            async_op=True,
        )
    return _InFlight(packed.batch, slot, work, received.view(plan.world_size, mine), what)


def _sum(scattered: _InFlight, plan: Plan) -> None:
    owned = [part for part in scattered.batch if plan.rank in part.owners]
    for part, rows in scattered.chunks(owned, plan):
        size = part.result.numel()
        if part.plain_dtype is not None:
            part.result.copy_(_sum_plain(rows, part, plan)[:size])
        elif size:
            whole = part.result
            if size < part.chunk_size:
                whole = whole.new_empty(part.chunk_size)
            torch_op.reduce(
                rows, part.chunk_size, plan.codec, multiplier=plan.multiplier, out=whole
            )
            if whole is not part.result:
                part.result.copy_(whole[:size])


def _sum_plain(rows: torch.Tensor, part: Part, plan: Plan) -> torch.Tensor:
    """Returns the sum or mean [chunk_size] of plain values, float32, in the order of the ranks."""
    first, *others = _plain(rows, part)
    total = first.to(torch.float32, copy=True)
    for values in others:
        total += values
    return total.mul_(plan.multiplier)


def _sum_and_gather(scattered: _InFlight, plan: Plan) -> _InFlight:
    device = scattered.received.device
    row_bytes = scattered.received.shape[1]
    at_once = device.type == "cpu"
    num_rows = plan.world_size if at_once else 1
    sent = workspace.buffer(f"sum {scattered.slot}", num_rows * row_bytes, device)
    sent = sent.view(num_rows, row_bytes)
    start = 0
    for part, rows in scattered.chunks(scattered.batch, plan):
        stop = start + part.row_bytes(plan.codec)
        _encode_sum(rows, part, plan, out=sent[:1, start:stop])
        start = stop
    sent[1:] = sent[0]
    received = workspace.buffer(f"gather {scattered.slot}", plan.world_size * row_bytes, device)
    plan.wire.add((plan.world_size - 1) * row_bytes, 0.0)
    what = f"all-gather of {received.numel()} bytes"
    with communicating(what, plan.group):
        # gloo's all-gather hands payloads on around a ring, step after step; an all-to-all sends
        # the same bytes at once.
        send = distributed.all_to_all_single if at_once else distributed.all_gather_single
        work = send(received, sent.flatten(), group=plan.group, async_op=True)
    received = received.view(plan.world_size, row_bytes)
    return _InFlight(scattered.batch, scattered.slot, work, received, what)


def _encode_sum(rows: torch.Tensor, part: Part, plan: Plan, *, out: torch.Tensor) -> None:
    """Writes the bytes of the sum of this rank's chunk, [1, row_bytes]."""
    if part.plain_dtype is not None:
        _plain(out, part).copy_(_sum_plain(rows, part, plan))
        return
    torch_op.reduce_quantize(
        rows,
        part.chunk_size,
        plan.codec,
        multiplier=plan.multiplier,
        residual=part.owned,
        seed=plan.seed(1),
        offset=part.offset + (plan.rank - part.owner) * part.chunk_size,
        out=out,
    )
    joint.give_back_owned(part)


def _read(gathered: _InFlight, plan: Plan) -> None:
    for part, rows in gathered.chunks(gathered.batch, plan):
        if part.plain_dtype is not None:
            part.result.copy_(_plain(rows, part).flatten()[: part.size])
        else:
            torch_op.dequantize(
                rows, part.size, plan.codec, chunk_size=part.chunk_size, out=part.result
            )
            joint.give_back_result(part)


def _count_float32(batch: Sequence[Part], plan: Plan, *, everywhere: bool) -> None:
    """Counts what the best algorithm would have sent of float32."""
    num_bytes = _FLOAT32_BYTES * sum(part.num_values for part in batch)
    hops = 2 if everywhere else 1
    plan.wire.add(0.0, hops * reduce_scatter_bytes(num_bytes, plan.world_size))
