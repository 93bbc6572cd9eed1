"""Traces what PyTorch does, for Perfetto and chrome://tracing."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile


@contextmanager
def trace(directory: Path) -> Iterator[None]:
    """Traces the block, and writes `trace.json`; the process's own part, not other ranks'."""
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    profiler = profile(activities=activities)
    profiler.start()
    try:
        yield
    finally:
        profiler.stop()
        directory.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(directory / "trace.json"))
