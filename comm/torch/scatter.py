"""The compressed reduce-scatter: every rank ends with its share of the sum, in floats.

Values are quantized once, on their way to the rank that sums them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import distributed

from comm.compression import quantization_seed
from comm.torch import workspace
from comm.torch.errors import communicating
from comm.torch.feedback import Feedback
from comm.torch.two_hops import Plan
from comm.wire import Wire, reduce_scatter_bytes
from kernels.quantize import torch_op

_FLOAT32_BYTES = 4
_SLOTS = 2


@dataclass(frozen=True)
class _InFlight:
    start: int
    stop: int
    work: distributed.Work
    received: torch.Tensor
    what: str


def reduce_scatter_shards(
    output: torch.Tensor,
    x: torch.Tensor,
    plan: Plan,
    feedback: Feedback | None,
    agreed: Callable[[], None],
    wire: Wire | None,
) -> None:
    """Writes the sum or mean of this rank's shard of all ranks' x to output.

    Args:
        output: [n], contiguous.
        x: [world_size * n], contiguous.
        plan: Of the call.
        feedback: Of x, or None.
        agreed: Called once, when the first piece is quantized, before anything is sent.
        wire: Counts what is sent, or None.

    Raises:
        CommunicationError: A rank is gone or too slow.
    """
    residual = None
    if feedback is not None:
        residual, _ = feedback.prepare(x.numel(), (0, x.numel()), (), x.device)
    in_flight: _InFlight | None = None
    try:
        for i, (start, stop) in enumerate(_parts(plan, output.numel())):
            payload = _quantize(x, residual, start, stop, i % _SLOTS, plan)
            if i == 0:
                agreed()
            following = _send(payload, start, stop, i % _SLOTS, plan)
            _count(wire, payload, stop - start, plan)
            if in_flight is not None:
                _sum(in_flight, output, plan)
            in_flight = following
        if in_flight is None:
            agreed()
        else:
            _sum(in_flight, output, plan)
    except BaseException:
        workspace.forget()
        raise


def _parts(plan: Plan, shard_size: int) -> list[tuple[int, int]]:
    """(start, stop) in each shard of what is sent at once: whole blocks, of all shards a piece."""
    block_size = plan.compression.codec.block_size
    blocks = plan.compression.piece_size // plan.world_size // block_size
    step = max(blocks, 1) * block_size
    return [(start, min(start + step, shard_size)) for start in range(0, shard_size, step)]


def _quantize(
    x: torch.Tensor,
    residual: torch.Tensor | None,
    start: int,
    stop: int,
    slot: int,
    plan: Plan,
) -> torch.Tensor:
    """Returns the payload [world_size, payload_bytes] of the same part of every shard."""
    codec = plan.compression.codec
    row_bytes = codec.payload_bytes(stop - start)
    payload = workspace.buffer(f"send {slot}", plan.world_size * row_bytes, x.device)
    rows = payload.view(plan.world_size, row_bytes)
    shard_size = x.numel() // plan.world_size
    seed = quantization_seed(plan.compression, plan.step, 0, plan.rank)
    for shard in range(plan.world_size):
        offset = shard * shard_size + start
        part = slice(offset, offset + stop - start)
        torch_op.quantize(
            x[part],
            codec,
            residual=None if residual is None else residual[part],
            seed=seed,
            offset=offset,
            out=rows[shard : shard + 1],
        )
    return rows


def _send(payload: torch.Tensor, start: int, stop: int, slot: int, plan: Plan) -> _InFlight:
    buffer = workspace.buffer(f"receive {slot}", payload.numel(), payload.device)
    what = f"all-to-all of {payload.numel()} bytes"
    with communicating(what, plan.group):
        work = distributed.all_to_all_single(
            buffer, payload.flatten(), group=plan.group, async_op=True
        )
    return _InFlight(start, stop, work, buffer.view_as(payload), what)


def _sum(in_flight: _InFlight, output: torch.Tensor, plan: Plan) -> None:
    with communicating(in_flight.what, plan.group):
        in_flight.work.wait()
    part = output[in_flight.start : in_flight.stop]
    torch_op.reduce(
        in_flight.received,
        part.numel(),
        plan.compression.codec,
        multiplier=plan.multiplier,
        out=part,
    )


def _count(wire: Wire | None, payload: torch.Tensor, shard_size: int, plan: Plan) -> None:
    if wire is not None:
        values_bytes = _FLOAT32_BYTES * shard_size * plan.world_size
        wire.add(
            reduce_scatter_bytes(payload.numel(), plan.world_size),
            reduce_scatter_bytes(values_bytes, plan.world_size),
        )
