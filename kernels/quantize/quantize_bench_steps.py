"""The steps that `quantize_bench` times, and their copies."""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from kernels.quantize import contract, torch_op
from kernels.quantize.contract import Codec

# Payloads in a sum.
NUM_TERMS = 4

GIB = 2**30

# What precedes each timed run: a pause in which torch's threads, which wait for work in a busy
# loop, leave the cores to ours, and untimed runs, in which threads that slept find a core each.
SETTLE_S = 0.01
WARM_UP_RUNS = 3


class Row(NamedTuple):
    """A step, and the bytes that it reads and writes."""

    step: Callable[[], object]
    num_bytes: int


def print_table(args: argparse.Namespace) -> None:
    """Measures as the options say, and prints one table."""
    torch.set_num_threads(args.threads)
    codec = contract.codec(args.format, block_size=args.block_size, rounding=args.rounding)
    where = f"{args.threads} threads" if args.device == "cpu" else torch.cuda.get_device_name()
    print(f"{args.format} {args.rounding}, blocks of {args.block_size}")
    print(f"{args.mib} MiB of float32, {where}")
    print(f"{'':<32}{'MiB':>7}{'ms':>18}{'GiB/s':>8}{'copy, ms':>18}{'GiB/s':>8}{'ratio':>8}")
    rows = _rows(codec, args.mib * 2**18, args.device)
    wait = torch.cuda.synchronize if args.device == "cuda" else lambda: None
    times = _measure(rows, args.device, args.repeat, wait)
    for name, row in rows.items():
        (ours, spread), (copy, copy_spread) = times[name]
        speed, copy_speed = (row.num_bytes / GIB / (t / 1e3) for t in (ours, copy))
        print(
            f"{name:<32}{row.num_bytes / 2**20:>7.0f}{ours:>10.3f} ± {spread:<5.3f}{speed:>8.2f}"
            f"{copy:>10.3f} ± {copy_spread:<5.3f}{copy_speed:>8.2f}{copy / ours:>8.2f}"
        )


def _rows(codec: Codec, size: int, device: str) -> dict[str, Row]:
    payload_bytes = codec.payload_bytes(size)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(size, generator=generator).to(device)
    residual = (0.01 * torch.randn(size, generator=generator)).to(device)
    payload = torch_op.quantize(x, codec)
    payloads = payload.expand(NUM_TERMS, -1).contiguous()
    rows: dict[str, Row] = {}
    for name in ("float32", "bfloat16"):
        dtype = getattr(torch, name)
        values = x.to(dtype)
        read = size * dtype.itemsize

        def quantize(values: torch.Tensor = values, rest: torch.Tensor | None = None) -> object:
            return torch_op.quantize(values, codec, residual=rest, out=payload)

        def with_residual(values: torch.Tensor = values) -> object:
            return torch_op.quantize(values, codec, residual=residual, out=payload)

        def dequantize(values: torch.Tensor = values) -> object:
            return torch_op.dequantize(payload, size, codec, out=values)

        def reduce(values: torch.Tensor = values) -> object:
            return torch_op.reduce(payloads, size, codec, multiplier=0.25, out=values)

        rows |= {
            f"quantize {name}": Row(quantize, read + payload_bytes),
            f"quantize {name}, residual": Row(with_residual, read + 8 * size + payload_bytes),
            f"dequantize to {name}": Row(dequantize, read + payload_bytes),
            f"reduce {NUM_TERMS} to {name}": Row(reduce, read + NUM_TERMS * payload_bytes),
        }

    def reduce_quantize() -> object:
        return torch_op.reduce_quantize(
            payloads, size, codec, multiplier=0.25, residual=residual, out=payload
        )

    moved = (NUM_TERMS + 1) * payload_bytes + 8 * size
    rows[f"reduce {NUM_TERMS}, quantize, residual"] = Row(reduce_quantize, moved)
    return rows


def _measure(
    rows: dict[str, Row], device: str, repeat: int, wait: Callable[[], None]
) -> dict[str, tuple[tuple[float, float], tuple[float, float]]]:
    """Returns, of each row and of its copy, the median and half the quartiles' distance, in ms."""
    largest = max(row.num_bytes for row in rows.values()) // 2
    source = torch.ones(largest, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    samples: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in rows}
    for _ in range(repeat):
        for name, row in rows.items():
            half = row.num_bytes // 2
            steps = (row.step, lambda half=half: target[:half].copy_(source[:half]))
            for step, found in zip(steps, samples[name], strict=True):
                time.sleep(SETTLE_S)
                for _ in range(WARM_UP_RUNS):
                    step()
                wait()
                start = time.perf_counter()
                step()
                wait()
                found.append(1e3 * (time.perf_counter() - start))
    return {name: (_summary(ours), _summary(copy)) for name, (ours, copy) in samples.items()}


def _summary(times: list[float]) -> tuple[float, float]:
    low, median, high = statistics.quantiles(times, n=4)
    return median, (high - low) / 2
