"""The process that `evaluation.speed` starts: it measures one artifact, and ends.

python -m evaluation.speed_worker DIRECTORY
"""

import ctypes
import gc
import signal
import sys
import time
from pathlib import Path

import numpy as np

from base.memory import peak_resident_bytes, resident_bytes
from base.provenance import library_versions
from evaluation.programs import PROGRAMS
from evaluation.speed_messages import (
    INPUTS,
    REPLY,
    REQUEST,
    BatchSpeed,
    Speed,
    SpeedOptions,
    SpeedRequest,
)
from models.network import Predict

_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>


def measure(request: SpeedRequest, inputs: np.ndarray) -> Speed:
    """Measures an artifact in this process, which must have loaded none before.

    Args:
        request: What is measured.
        inputs: `[n, ...]` for the largest batch.
    """
    program = PROGRAMS[request.program]
    device = program.prepare()
    gc.collect()
    base_memory_bytes = resident_bytes()
    start = time.perf_counter()
    predict = program.load(Path(request.directory))
    predict(inputs[:1])
    load_s = time.perf_counter() - start
    speeds = tuple(
        _speed(predict, inputs[:size], request.options) for size in request.options.batch_sizes
    )
    return Speed(
        speeds=speeds,
        load_s=load_s,
        peak_memory_bytes=max(peak_resident_bytes(), base_memory_bytes),
        base_memory_bytes=base_memory_bytes,
        device=device,
        library_versions=library_versions(program.libraries),
    )


def _speed(predict: Predict, batch: np.ndarray, options: SpeedOptions) -> BatchSpeed:
    """Times calls of one size, one after the other."""
    for _ in range(options.num_warm_up_calls):
        predict(batch)
    gc.collect()
    seconds: list[float] = []
    begin = time.perf_counter()
    while len(seconds) < options.num_calls and (
        not seconds or time.perf_counter() - begin < options.max_seconds
    ):
        start = time.perf_counter()
        predict(batch)
        seconds.append(time.perf_counter() - start)
    return summarize(len(batch), seconds)


def summarize(batch_size: int, seconds: list[float]) -> BatchSpeed:
    """Returns what is said of calls of one size.

    A percentile is the least measured time that so many calls did not exceed, "nearest rank": no
    number that no call took, and of few calls the greatest.

    Args:
        batch_size: Of each call.
        seconds: That each took, at least one.
    """
    times = np.array(seconds)
    p50, p90, p99 = 1e3 * np.percentile(times, [50, 90, 99], method="inverted_cdf")
    return BatchSpeed(
        batch_size=batch_size,
        num_calls=len(seconds),
        latency_mean_ms=float(1e3 * times.mean()),
        latency_p50_ms=float(p50),
        latency_p90_ms=float(p90),
        latency_p99_ms=float(p99),
        examples_per_s=float(batch_size * len(seconds) / times.sum()),
    )


def main() -> None:
    """Reads the request from a directory, and writes the reply beside it."""
    _end_with_parent()
    exchange = Path(sys.argv[1])
    request = SpeedRequest.model_validate_json((exchange / REQUEST).read_text())
    inputs = np.load(exchange / INPUTS, allow_pickle=False)
    (exchange / REPLY).write_text(measure(request, inputs).model_dump_json())


def _end_with_parent() -> None:
    """Has Linux kill this process when the one that started it has ended, however it did."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
