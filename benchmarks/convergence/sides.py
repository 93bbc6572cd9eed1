"""The ways in which gradients travel that the convergence benchmark compares."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import distributed
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook
from torch.nn.parallel import DistributedDataParallel

from benchmarks.convergence import cases
from comm.compression import Compression, compresses
from comm.torch.ddp import CompressionHook, compressed_hook
from comm.wire import Wire
from kernels.quantize.contract import codec

# PowerSGD begins after a tenth of the steps, as its documentation advises where its default of 1000
# is too many; at the earliest when DDP has arranged its buckets for good.
_POWER_SGD_WARMUP = 0.1
_POWER_SGD_FIRST_STEP = 2

# 15 levels, as int4 without its most negative value.
_FOUR_BIT_MAX = 7

# Gives a DDP model its hook for so many steps; returns the count of what is sent, if there is one.
Register = Callable[[DistributedDataParallel, int], Wire | None]


@dataclass
class FourBits:
    """A hook that does to gradients what sending 4 bits would; it sends float32.

    Blocks of values share a scale, their largest magnitude over 7, and are rounded to the nearest
    multiple of it: on each rank, and once more when they are averaged. As with `Compression`, small
    and one-dimensional gradients stay as they are.

    Attributes:
      block_size: values that share a scale; None: all of a tensor.
      error_feedback: whether what both roundings lose is added to the next step's gradient.
    """

    block_size: int | None
    error_feedback: bool
    _residuals: dict[tuple[torch.Tensor, str], torch.Tensor] = field(default_factory=dict)

    def average(self, bucket: distributed.GradBucket) -> torch.futures.Future[torch.Tensor]:
        """Averages a bucket's gradients over the ranks of the default group."""
        compressed = [
            (parameter, gradient)
            for parameter, gradient in zip(bucket.parameters(), bucket.gradients(), strict=True)
            if compresses(Compression(), tuple(parameter.shape))
        ]
        for parameter, gradient in compressed:
            self._round(gradient, (parameter, "local"))
        distributed.all_reduce(bucket.buffer())
        bucket.buffer().div_(distributed.get_world_size())
        for parameter, gradient in compressed:
            self._round(gradient, (parameter, "average"))
        done: torch.futures.Future[torch.Tensor] = torch.futures.Future()
        done.set_result(bucket.buffer())
        return done

    def _round(self, gradient: torch.Tensor, key: tuple[torch.Tensor, str]) -> None:
        if not self.error_feedback:
            gradient.copy_(round_to_four_bits(gradient, self.block_size))
            return
        residual = self._residuals.setdefault(key, torch.zeros_like(gradient))
        wanted = gradient + residual
        gradient.copy_(round_to_four_bits(wanted, self.block_size))
        torch.sub(wanted, gradient, out=residual)


def round_to_four_bits(x: torch.Tensor, block_size: int | None) -> torch.Tensor:
    """Returns x with each block of its values, in their order, rounded to 15 levels."""
    block_size = block_size or x.numel()
    blocks = torch.nn.functional.pad(x.flatten(), (0, -x.numel() % block_size))
    blocks = blocks.reshape(-1, block_size)
    scales = blocks.abs().amax(dim=1, keepdim=True) / _FOUR_BIT_MAX
    levels = (blocks / scales.clamp_min(torch.finfo(x.dtype).tiny)).round()
    return (levels * scales).flatten()[: x.numel()].reshape(x.shape)


def _float32(model: DistributedDataParallel, num_steps: int) -> None:
    """DDP's own all-reduce."""


def _bfloat16_hook(
    state: None, bucket: distributed.GradBucket
) -> torch.futures.Future[torch.Tensor]:
    """PyTorch's own, under a name that DDP does not refuse where there is no NCCL."""
    return default_hooks.bf16_compress_hook(distributed.group.WORLD, bucket)


def _bfloat16(model: DistributedDataParallel, num_steps: int) -> None:
    model.register_comm_hook(None, _bfloat16_hook)


def _power_sgd(rank: int) -> Register:
    def register(model: DistributedDataParallel, num_steps: int) -> None:
        state = powerSGD_hook.PowerSGDState(
            process_group=None,
            matrix_approximation_rank=rank,
            start_powerSGD_iter=max(_POWER_SGD_FIRST_STEP, int(_POWER_SGD_WARMUP * num_steps)),
        )
        model.register_comm_hook(state, powerSGD_hook.powerSGD_hook)

    return register


def _ours(compression: Compression) -> Register:
    def register(model: DistributedDataParallel, num_steps: int) -> Wire:
        state = CompressionHook(model, compression)
        model.register_comm_hook(state, compressed_hook)
        return state.wire

    return register


def _four_bits(block_size: int | None, *, error_feedback: bool) -> Register:
    def register(model: DistributedDataParallel, num_steps: int) -> None:
        model.register_comm_hook(FourBits(block_size, error_feedback), FourBits.average)

    return register


VARIANTS: Mapping[str, Register] = {
    cases.FLOAT32: _float32,
    cases.BFLOAT16: _bfloat16,
    **{name: _power_sgd(rank) for rank, name in cases.POWER_SGD.items()},
    cases.INT8: _ours(Compression()),
    cases.INT8_WITHOUT_FEEDBACK: _ours(Compression(error_feedback=False)),
    cases.FLOAT8: _ours(Compression(codec=codec("float8_e4m3fn"))),
    cases.FOUR_BITS_WITH_FEEDBACK: _four_bits(256, error_feedback=True),
    cases.FOUR_BITS: _four_bits(256, error_feedback=False),
    cases.FOUR_BITS_A_TENSOR: _four_bits(None, error_feedback=False),
}
