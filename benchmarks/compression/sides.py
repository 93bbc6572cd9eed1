"""The ways to average gradients that are timed: torch's own hooks, and ours."""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import distributed
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook
from torch.nn.parallel import DistributedDataParallel

from benchmarks.compression import cases
from comm.compression import Compression
from comm.torch.ddp import CompressionHook, compressed_hook
from comm.wire import Wire
from kernels.quantize.contract import codec

# Before it PowerSGD sends float32: DDP rearranges its buckets after the first step.
_POWER_SGD_FIRST_STEP = 2
# Steps after which every side does what it will do from then on.
WARM_UP_STEPS = _POWER_SGD_FIRST_STEP + 1

_COMPRESSIONS = {
    cases.OURS: Compression(),
    cases.OURS_WITHOUT_FEEDBACK: Compression(error_feedback=False),
    cases.OURS_FLOAT8: Compression(codec=codec("float8_e4m3fn")),
}

_Future: TypeAlias = torch.futures.Future[torch.Tensor]
_Hook: TypeAlias = Callable[[Any, distributed.GradBucket], _Future]


def is_ours(side: str) -> bool:
    """Whether a side is this project's."""
    return side in _COMPRESSIONS


def register(ddp: DistributedDataParallel, side: str) -> Wire | None:
    """Gives a model a side's communication hook.

    Returns:
      The count of the bytes that are sent, if the side has one.
    """
    if side == cases.FLOAT32:
        return None  # DDP's default
    if compression := _COMPRESSIONS.get(side):
        state = CompressionHook(ddp, compression)
        ddp.register_comm_hook(state, compressed_hook)
        return state.wire
    hook, hook_state = _peer(side)
    ddp.register_comm_hook(hook_state, hook)
    return None


def _peer(side: str) -> tuple[_Hook, object]:
    if side == cases.NOTHING:
        return _nothing_hook, None
    if side == cases.BFLOAT16:
        return _unchecked(default_hooks.bf16_compress_hook), None
    if side == cases.FLOAT16:
        return default_hooks.fp16_compress_hook, None
    state = powerSGD_hook.PowerSGDState(
        process_group=None,
        matrix_approximation_rank=next(r for r, name in cases.POWER_SGD.items() if name == side),
        start_powerSGD_iter=_POWER_SGD_FIRST_STEP,
    )
    return _one_at_a_time(powerSGD_hook.powerSGD_hook), state


def _nothing_hook(state: object, bucket: distributed.GradBucket) -> _Future:
    """What DDP takes by itself."""
    return _finished(bucket.buffer())


def _unchecked(hook: _Hook) -> _Hook:
    """The same hook by another name: DDP refuses bf16 without NCCL, by name, though gloo can."""

    def unchecked_hook(state: object, bucket: distributed.GradBucket) -> _Future:
        return hook(state, bucket)

    return unchecked_hook


def _one_at_a_time(hook: _Hook) -> _Hook:
    """The same hook, each bucket done before the next begins.

    PowerSGD starts collectives from the callbacks of others. With several buckets on their way
    gloo runs those in any order, which differs between ranks: it fails or never ends.
    """

    def one_at_a_time_hook(state: object, bucket: distributed.GradBucket) -> _Future:
        return _finished(hook(state, bucket).wait())

    return one_at_a_time_hook


def _finished(result: torch.Tensor) -> _Future:
    future: _Future = torch.futures.Future()
    future.set_result(result)
    return future
