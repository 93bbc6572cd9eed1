"""Times the quantization kernels beside a copy of as many bytes, on all cores."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from benchmarks.compression.cases import COPY, KERNEL_TABLE, OURS
from benchmarks.harness.record import Row
from benchmarks.harness.timing import Step, measure_in_turns, second_run_s
from kernels.quantize import torch_op
from kernels.quantize.contract import DEFAULT_CODEC

# As many as a gradient of 100 MB, four times a core's second-level cache and more.
SIZE = 25_000_000
_TERMS = 2


class _Kernel(NamedTuple):
    """A step, and the bytes that it reads and writes, each once."""

    run: Callable[[], object]
    num_bytes: int


def measure_kernels(budget_s: float) -> Iterator[Row]:
    """Times each kernel and, in turns with it, a copy that reads and writes as much in all.

    Args:
      budget_s: for one kernel and its copy.
    """
    for name, kernel in _kernels().items():
        source = torch.ones(kernel.num_bytes // 2, dtype=torch.uint8)
        target = torch.ones_like(source)

        def copy(source: torch.Tensor = source, target: torch.Tensor = target) -> object:
            return target.copy_(source)

        steps = {OURS: Step(kernel.run), COPY: Step(copy)}
        first_s = {side: second_run_s(step) for side, step in steps.items()}
        timings = measure_in_turns(steps, first_s, budget_s=budget_s)
        for side, timing in timings.items():
            yield Row(
                table=KERNEL_TABLE,
                case={"values": SIZE, "bytes": kernel.num_bytes},
                step=name,
                side=side,
                timing=timing,
                metrics={
                    "gb_per_s": kernel.num_bytes / timing.median_ms / 1e6,
                    "times_ours": timing.median_ms / timings[OURS].median_ms,
                },
            )


def _kernels() -> dict[str, _Kernel]:
    codec = DEFAULT_CODEC
    x = torch.randn(SIZE, generator=torch.Generator().manual_seed(0))
    residual = torch.zeros_like(x)
    payload = torch_op.quantize(x, codec)
    payloads = payload.expand(_TERMS, -1).contiguous()
    values, packed, rest = x.nbytes, payload.numel(), 2 * residual.nbytes
    return {
        "quantize": _Kernel(
            lambda: torch_op.quantize(x, codec, out=payload),
            values + packed,
        ),
        "quantize, feedback": _Kernel(
            lambda: torch_op.quantize(x, codec, residual=residual, out=payload),
            values + packed + rest,
        ),
        "dequantize": _Kernel(
            lambda: torch_op.dequantize(payload, SIZE, codec, out=x),
            values + packed,
        ),
        f"reduce {_TERMS}": _Kernel(
            lambda: torch_op.reduce(payloads, SIZE, codec, multiplier=1 / _TERMS, out=x),
            values + _TERMS * packed,
        ),
        f"reduce {_TERMS}, quantize, feedback": _Kernel(
            lambda: torch_op.reduce_quantize(
                payloads, SIZE, codec, multiplier=1 / _TERMS, residual=residual, out=payload
            ),
            (_TERMS + 1) * packed + rest,
        ),
    }
