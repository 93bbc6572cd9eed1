"""The compressed all-reduce among ranks whose links are alike.

Each rank quantizes its vector in as many chunks as there are ranks, sends chunk r to rank r, sums
the chunks it gets, quantizes the sum and sends it to all. So values are quantized twice, however
many ranks there are, and every rank, the one that made a sum included, uses what was sent of it:
all end with the same bits.

A vector is cut into pieces: while one is on its way the next is quantized and the one before is
summed. Pieces and chunks are whole blocks, so what comes out depends neither on how a vector is
cut nor on which rank sums what.

Reference: all-to-all, sum, all-gather as in Wang et al., "ZeRO++", 2023, arXiv:2306.10209; two
quantizations with a residual each as in Tang et al., "DoubleSqueeze", 2019, arXiv:1905.05957.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import distributed

from comm.compression import Compression, pieces, quantization_seed
from comm.torch import workspace
from comm.torch.errors import communicating
from comm.torch.feedback import Feedback
from comm.wire import Wire, all_reduce_bytes
from kernels.quantize import torch_op

_FLOAT32_BYTES = 4

# Pieces between which a buffer is not used again: one is quantized while one is on its way.
_SLOTS = 2


@dataclass(frozen=True)
class Piece:
    """A part of a vector that is sent at once.

    Attributes:
        values: [n], contiguous; the result replaces it.
        offset: Index of the first value in the vector.
        chunk_size: Values that each rank sums.
        local: Residual [n] or None.
        owned: Residual [chunk_size] of this rank's sums, or None.
    """

    values: torch.Tensor
    offset: int
    chunk_size: int
    local: torch.Tensor | None
    owned: torch.Tensor | None


@dataclass(frozen=True)
class Plan:
    """What is the same for all pieces of a call."""

    compression: Compression
    group: distributed.ProcessGroup
    rank: int
    world_size: int
    multiplier: float
    step: int


def plan(
    compression: Compression, group: distributed.ProcessGroup, *, average: bool, step: int
) -> Plan:
    """Returns the plan of a call."""
    world_size = distributed.get_world_size(group)
    return Plan(
        compression,
        group,
        distributed.get_rank(group),
        world_size,
        1.0 / world_size if average else 1.0,
        step,
    )


def cut(
    x: torch.Tensor, plan: Plan, feedback: Feedback | None, *, offset: int = 0, size: int = 0
) -> Iterator[Piece]:
    """Yields the pieces of a flat vector, with their residuals.

    Args:
        x: [n], contiguous.
        plan: Of the call.
        feedback: Of the whole vector; allocated here at its first use. Or None.
        offset: Index of x's first value in the whole vector, if x is this node's share of one.
        size: Values in the whole vector, n unless given.
    """
    codec = plan.compression.codec
    parts = list(pieces(plan.compression, x.numel()))
    chunks = [codec.chunk_size(stop - start, plan.world_size) for start, stop in parts]
    local: torch.Tensor | None = None
    owned: Sequence[torch.Tensor | None] = [None] * len(parts)
    if feedback is not None:
        spans = [
            _owned(start, stop, chunk, plan.rank, offset)
            for (start, stop), chunk in zip(parts, chunks, strict=True)
        ]
        own = (offset, offset + x.numel())
        local, owned = feedback.prepare(size or x.numel(), own, spans, x.device)
    for i, (start, stop) in enumerate(parts):
        rest = None if local is None else local[start:stop]
        yield Piece(x[start:stop], offset + start, chunks[i], rest, owned[i])


def _owned(start: int, stop: int, chunk_size: int, rank: int, offset: int) -> tuple[int, int, int]:
    """(start, stop, size) in the whole vector of the chunk of a piece that a rank sums."""
    first = min(start + rank * chunk_size, stop)
    return offset + first, offset + min(first + chunk_size, stop), chunk_size


@dataclass(frozen=True)
class _InFlight:
    """A piece whose bytes are on their way into `received`."""

    piece: Piece
    slot: int
    work: distributed.Work
    received: torch.Tensor
    what: str

    def wait(self, group: distributed.ProcessGroup) -> None:
        with communicating(self.what, group):
            self.work.wait()


def all_reduce_pieces(
    pieces_of_x: Iterable[Piece],
    plan: Plan,
    agreed: Callable[[], None],
    wire: Wire | None,
) -> None:
    """Replaces the values of all pieces by their sums, or means, over the ranks.

    Args:
        pieces_of_x: In the same order and of the same sizes on every rank.
        plan: Of the call.
        agreed: Called once, when the first piece is quantized, before anything is sent.
        wire: Counts what is sent, or None.

    Raises:
        CommunicationError: A rank is gone or too slow.
    """
    scattered: _InFlight | None = None
    gathered: _InFlight | None = None
    try:
        # Two rounds more than pieces: the last are summed and read in them.
        for i, piece in enumerate(itertools.chain(pieces_of_x, (None, None))):
            payload = None if piece is None else _quantize(piece, i % _SLOTS, plan)
            if i == 0:
                agreed()
            following = None
            if piece is not None and payload is not None:
                following = _scatter(piece, i % _SLOTS, payload, plan)
                _count(wire, piece, payload, plan)
            summed = None if scattered is None else _sum_and_gather(scattered, plan)
            if gathered is not None:
                _read(gathered, plan)
            scattered, gathered = following, summed
    except BaseException:
        workspace.forget()
        raise


def _quantize(piece: Piece, slot: int, plan: Plan) -> torch.Tensor:
    """Returns the payload [world_size, payload_bytes]: a row for each rank."""
    return torch_op.quantize(
        piece.values,
        plan.compression.codec,
        num_chunks=plan.world_size,
        chunk_size=piece.chunk_size,
        residual=piece.local,
        seed=quantization_seed(plan.compression, plan.step, 0, plan.rank),
        offset=piece.offset,
        out=_rows(f"send {slot}", plan.world_size, piece, plan),
    )


def _scatter(piece: Piece, slot: int, payload: torch.Tensor, plan: Plan) -> _InFlight:
    received = _rows(f"receive {slot}", plan.world_size, piece, plan)
    what = f"all-to-all of {payload.numel()} bytes"
    with communicating(what, plan.group):
        work = distributed.all_to_all_single(
            received.flatten(), payload.flatten(), group=plan.group, async_op=True
        )
    return _InFlight(piece, slot, work, received, what)


def _sum_and_gather(scattered: _InFlight, plan: Plan) -> _InFlight:
    scattered.wait(plan.group)
    piece, slot = scattered.piece, scattered.slot
    # Of all rows only the first is needed where an all-gather sends it.
    at_once = piece.values.device.type == "cpu"
    rows = _rows(f"sum {slot}", plan.world_size if at_once else 1, piece, plan)
    payload = torch_op.reduce_quantize(
        scattered.received,
        piece.chunk_size,
        plan.compression.codec,
        multiplier=plan.multiplier,
        residual=piece.owned,
        # Rank 0 whoever sums: the noise of an element is to depend on nothing but its index.
        seed=quantization_seed(plan.compression, plan.step, 1, 0),
        offset=piece.offset + plan.rank * piece.chunk_size,
        out=rows[:1],
    )
    rows[1:] = payload
    received = _rows(f"gather {slot}", plan.world_size, piece, plan)
    what = f"all-gather of {received.numel()} bytes"
    with communicating(what, plan.group):
        # gloo's all-gather hands payloads on around a ring, step after step; an all-to-all sends
        # the same bytes at once.
        send = distributed.all_to_all_single if at_once else distributed.all_gather_single
        work = send(received.flatten(), rows.flatten(), group=plan.group, async_op=True)
    return _InFlight(piece, slot, work, received, what)


def _read(gathered: _InFlight, plan: Plan) -> None:
    gathered.wait(plan.group)
    values = gathered.piece.values
    torch_op.dequantize(
        gathered.received,
        values.numel(),
        plan.compression.codec,
        chunk_size=gathered.piece.chunk_size,
        out=values,
    )


def _rows(name: str, num_rows: int, piece: Piece, plan: Plan) -> torch.Tensor:
    row_bytes = plan.compression.codec.payload_bytes(piece.chunk_size)
    flat = workspace.buffer(name, num_rows * row_bytes, piece.values.device)
    return flat.view(num_rows, row_bytes)


def _count(wire: Wire | None, piece: Piece, payload: torch.Tensor, plan: Plan) -> None:
    if wire is not None:
        wire.add(
            all_reduce_bytes(payload.numel(), plan.world_size),
            all_reduce_bytes(_FLOAT32_BYTES * piece.values.numel(), plan.world_size),
        )
