"""What processes use is what they were told to use."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from train.callbacks.gpus import gpu_usage
from train.callbacks.process_tree import usage_of
from train.callbacks.resources import ResourceSampler
from train.events import Began, GpuUsage, Resources, Stepped, Tell

_MIB = 2**20
_CPU_S = 0.5
_MEMORY_BYTES = 64 * _MIB
_WRITTEN_BYTES = 8 * _MIB

# Says a line once it has burnt all of it, and waits for one to end.
_BURNING = f"""
import os, sys, time
memory = bytearray(os.urandom(1024) * {_MEMORY_BYTES // 1024})
while time.process_time() < {_CPU_S}:
    pass
with open(sys.argv[1], "wb") as file:
    file.write(bytes({_WRITTEN_BYTES}))
    os.fsync(file.fileno())
print("burnt", flush=True)
sys.stdin.readline()
"""

_REPORT = Stepped(
    step=1, num_steps=2, loss=1.0, metrics={}, learning_rate=1.0, examples_per_s=1.0, unit="texts"
)


@contextmanager
def _burning(directory: Path) -> Iterator[None]:
    command = [sys.executable, "-c", _BURNING, str(directory / "written")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "burnt\n"
        yield
        process.communicate("\n")


def test_a_child_counts_while_it_runs_and_after(tmp_path: Path) -> None:
    before = usage_of(os.getpid())
    with _burning(tmp_path):
        during = usage_of(os.getpid())
    after = usage_of(os.getpid())
    assert during.memory_bytes - before.memory_bytes >= _MEMORY_BYTES
    for usage in (during, after):
        assert usage.cpu_s - before.cpu_s >= _CPU_S - 0.05  # the system counts in ticks
    written_bytes = after.disk_written_bytes - before.disk_written_bytes
    if written_bytes:  # a file system in memory has no device
        assert _WRITTEN_BYTES <= written_bytes < 1.5 * _WRITTEN_BYTES
    assert after.memory_bytes < during.memory_bytes


def test_reports_are_answered(tmp_path: Path) -> None:
    sampler = ResourceSampler(every_s=0.01, root=os.getpid())
    try:
        assert sampler(Began(0, 2)) is None
        with _burning(tmp_path):
            answer = sampler(_REPORT)
    finally:
        sampler.close()
    assert isinstance(answer, Tell)
    assert isinstance(answer.event, Resources)
    assert answer.event.step == 1
    assert answer.event.cpu_cores > 0
    assert answer.event.memory_bytes >= _MEMORY_BYTES


class _NvmlError(Exception):
    pass


def _nvml() -> SimpleNamespace:
    """Returns what answers as NVML does, of two GPUs, one of which says nothing of its power."""

    def power_mw(handle: int) -> int:
        if handle == 1:
            raise _NvmlError
        return 250_000

    return SimpleNamespace(
        NVMLError=_NvmlError,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda number: number,
        nvmlDeviceGetUtilizationRates=lambda handle: SimpleNamespace(gpu=75, memory=10),
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(used=3 * _MIB),
        nvmlDeviceGetPowerUsage=power_mw,
    )


def test_gpus_are_told_in_base_units() -> None:
    usage, unknown = gpu_usage(_nvml())
    assert usage == GpuUsage(0.75, 3 * _MIB, pytest.approx(250.0))
    assert unknown is None
