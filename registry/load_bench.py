"""Measures memory and time of publishing, verifying and loading an artifact, each in a new process.

    ./bazelw run -c opt //registry:load_bench -- --mib 2048

One half of the weights are bfloat16, and one half float32. What a process had
resident before, its modules and, where it publishes, the weights themselves, does not count.
"""

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from base.interrupts import exit_when_interrupted, hear_signals_in_imports

if __name__ == "__main__":
    hear_signals_in_imports("interrupted")

import ml_dtypes
import numpy as np
from hpc.artifact.v1 import artifact_pb2

from base.memory import peak_resident_bytes, resident_bytes
from base.options import Parser, positive_int
from registry.artifact import load, publish, read_descriptor, verify

_MIB = 2**20
_NUM_TENSORS = 8


class Measurement(NamedTuple):
    """What one step took.

    Attributes:
        seconds: Wall clock.
        peak_bytes: The most memory that was resident, beyond what was before.
    """

    seconds: float
    peak_bytes: int


def weights(size_bytes: int) -> dict[str, np.ndarray]:
    """Makes tensors of random numbers' bits, of `size_bytes` in all, in no other memory."""
    random = np.random.default_rng(0)
    tensors = {}
    for index in range(_NUM_TENSORS):
        numbers = np.empty(size_bytes // _NUM_TENSORS // 8)
        random.random(out=numbers)
        dtype = ml_dtypes.bfloat16 if index % 2 else np.float32
        tensors[f"layer.{index}"] = numbers.view(dtype).reshape(-1, 1024)
    return tensors


def descriptor() -> artifact_pb2.Artifact:
    """A descriptor of no network in particular."""
    tensor = artifact_pb2.TensorSpec(name="x", datatype="FP32", shape=[-1])
    return artifact_pb2.Artifact(
        name="load-bench",
        version="1.0.0",
        framework=artifact_pb2.FRAMEWORK_TORCH,
        model=artifact_pb2.Model(architecture="none", config_json="{}"),
        inputs=[tensor],
        outputs=[tensor],
        training_run=artifact_pb2.TrainingRun(
            git_commit="unknown", config_digest="0" * 64, data_digest="0" * 64
        ),
    )


def _publish(directory: Path, size_bytes: int) -> Callable[[], object]:
    tensors = weights(size_bytes)
    return lambda: publish(directory, descriptor(), tensors)


# What makes a step ready, in the process that measures it.
STEPS: dict[str, Callable[[Path, int], Callable[[], object]]] = {
    "publish": _publish,
    "read_descriptor": lambda directory, _: lambda: read_descriptor(directory),
    "verify": lambda directory, _: lambda: verify(directory),
    "load": lambda directory, _: lambda: load(directory),
    "load, mapped": lambda directory, _: lambda: load(directory, mapped=True),
}


def measure(step: str, directory: Path, size_bytes: int) -> Measurement:
    """Runs a step in a process of its own.

    Args:
        step: One of `STEPS`; "publish" comes before the others.
        directory: Of the artifact.
        size_bytes: Of the weights.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (step, directory, size_bytes))


def _measured(step: str, directory: Path, size_bytes: int) -> Measurement:
    run = STEPS[step](directory, size_bytes)
    before_bytes, began = resident_bytes(), time.monotonic()
    result = run()
    seconds = time.monotonic() - began
    del result
    return Measurement(seconds, max(0, peak_resident_bytes() - before_bytes))


def main() -> None:
    """Prints a table; the artifact is removed in the end."""
    parser = Parser(__doc__)
    parser.add_argument("--mib", type=positive_int, default=2048, help="of the weights")
    parser.add_argument("--directory", type=Path, help="where the artifact is for a while")
    options = parser.parse_args()
    size_bytes = options.mib * _MIB
    print(f"weights of {options.mib:,} MiB, half bfloat16, half float32\n")
    print("| step | seconds | MiB/s | memory beyond what was before, MiB | of the weights |")
    print("| --- | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        for step in STEPS:
            seconds, peak_bytes = measure(step, Path(folder, "artifact"), size_bytes)
            print(
                f"| {step} | {seconds:.2f} | {options.mib / seconds:,.0f} | "
                f"{peak_bytes / _MIB:,.1f} | {peak_bytes / size_bytes:.3f} |"
            )


if __name__ == "__main__":
    with exit_when_interrupted("interrupted"):
        main()
