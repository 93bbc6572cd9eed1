"""How fast an artifact answers, and how much memory it takes: measured in a process of its own.

That process holds nothing but the program, the artifact and a batch of inputs, so that its peak of
memory is the model's. It is started anew for each measurement.
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evaluation.examples import EvaluationError
from evaluation.speed_messages import INPUTS, REPLY, REQUEST, Speed, SpeedOptions, SpeedRequest

# What is shown of the output of a process that failed.
_MAX_SHOWN = 2_000


def batch_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    """Returns batch sizes in order.

    Raises:
        EvaluationError: One is not at least 1, or comes twice.
    """
    for size in sizes:
        if size < 1 or size > 2**20 or sizes.count(size) > 1:
            raise EvaluationError(
                f"batch sizes {', '.join(map(str, sizes))}: expected each once, from 1 to {2**20}"
            )
    return tuple(sorted(sizes))


def measure_speed(
    directory: Path, program: str, inputs: np.ndarray, options: SpeedOptions
) -> Speed:
    """Measures an artifact in a new process.

    Args:
        directory: Of the artifact.
        program: What computes it, a key of `evaluation.programs.PROGRAMS`.
        inputs: `[n, ...]` examples, n > 0; they are repeated where a batch needs more.
        options: What is measured.

    Raises:
        EvaluationError: The process failed; the message holds what it said.
    """
    options = options.model_copy(update={"batch_sizes": batch_sizes(options.batch_sizes)})
    largest = options.batch_sizes[-1]
    batch = np.take(inputs, np.arange(largest) % len(inputs), axis=0)
    request = SpeedRequest(directory=str(directory.absolute()), program=program, options=options)
    with tempfile.TemporaryDirectory(prefix="speed-") as exchange:
        Path(exchange, REQUEST).write_text(request.model_dump_json())
        np.save(Path(exchange, INPUTS), batch, allow_pickle=False)
        command = [sys.executable, "-m", "evaluation.speed_worker", exchange]
        ended = subprocess.run(command, capture_output=True, text=True, errors="replace")
        reply = Path(exchange, REPLY)
        if ended.returncode or not reply.exists():
            raise EvaluationError(_failure(program, ended))
        return Speed.model_validate_json(reply.read_text())


def _failure(program: str, ended: "subprocess.CompletedProcess[str]") -> str:
    said = ended.stderr.strip().splitlines()
    last = said[-1][-_MAX_SHOWN:] if said else "it said nothing; perhaps memory ran out"
    return f"the process that measured program {program!r} ended with {ended.returncode}: {last}"
