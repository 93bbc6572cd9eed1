"""Starts the ranks of the compression benchmark and asks them what to do."""

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

Answer = dict[str, Any]

# Longer than the ranks' own timeout, whose message says more.
_ANSWER_TIMEOUT_S = 180.0
_WORDS_OF_STDERR = 1500


class RankError(RuntimeError):
    """A rank failed; the message has the end of what it wrote."""


class Ranks:
    """Processes that do the same at the same time."""

    def __init__(
        self, processes: Sequence[subprocess.Popen[bytes]], logs: Sequence[IO[bytes]]
    ) -> None:
        self._processes, self._logs = processes, logs

    def ask(self, **request: object) -> list[Answer]:
        """Sends all ranks a request; returns their answers in the order of ranks.

        Raises:
          RankError: one failed or did not answer in time.
        """
        line = json.dumps(request).encode() + b"\n"
        for rank, process in enumerate(self._processes):
            assert process.stdin is not None
            try:
                process.stdin.write(line)
                process.stdin.flush()
            except BrokenPipeError:
                raise self._error(rank, "ended") from None
        return self._answers()

    def _answers(self) -> list[Answer]:
        """Reads a line from every rank, in the order in which they come.

        The first that ends without one fails the request, so that what it wrote is what is told,
        and not what the others say about it.
        """
        found: dict[int, Answer] = {}
        with selectors.DefaultSelector() as selector:
            for rank, process in enumerate(self._processes):
                assert process.stdout is not None
                selector.register(process.stdout, selectors.EVENT_READ, (rank, process.stdout))
            while len(found) < len(self._processes):
                ready = selector.select(_ANSWER_TIMEOUT_S)
                if not ready:
                    waiting = min(set(range(len(self._processes))) - found.keys())
                    raise self._error(waiting, f"did not answer within {_ANSWER_TIMEOUT_S:g} s")
                for key, _ in ready:
                    rank, stdout = key.data
                    line = stdout.readline()
                    if not line:
                        raise self._error(rank, "ended")
                    found[rank] = json.loads(line)
                    selector.unregister(stdout)
        return [found[rank] for rank in sorted(found)]

    def _error(self, rank: int, what: str) -> RankError:
        log = self._logs[rank]
        log.seek(0)
        said = log.read().decode(errors="replace").strip()[-_WORDS_OF_STDERR:]
        return RankError(f"rank {rank} {what}; the last it wrote:\n{said or '(nothing)'}")


@contextmanager
def start_ranks(
    enter: Sequence[Sequence[str]],
    addresses: Sequence[str],
    interface: str,
    shapes: Sequence[Sequence[int]] | None = None,
) -> Iterator[Ranks]:
    """Starts a process for each rank, and ends them all however the block ends.

    Args:
      enter: what to put before each rank's command, such as what enters its namespace.
      addresses: of the ranks.
      interface: on which they have those addresses.
      shapes: of the gradients, those of `exchange.SHAPES` unless given.
    """
    threads = str(max(1, len(os.sched_getaffinity(0)) // len(addresses)))
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PYTHONSAFEPATH": "1",
        "GLOO_SOCKET_IFNAME": interface,
        "OMP_NUM_THREADS": threads,
        "HPC_NUM_THREADS": threads,
    }
    options = ["--interface", interface, "--addresses", *addresses]
    options += [] if shapes is None else ["--shapes", json.dumps(shapes)]
    with ExitStack() as stack:
        meeting = stack.enter_context(tempfile.TemporaryDirectory())
        options += ["--meeting", str(Path(meeting, "store"))]
        processes, logs = [], []
        for rank, prefix in enumerate(enter):
            program = [sys.executable, "-m", "benchmarks.compression.worker", "--rank", str(rank)]
            logs.append(stack.enter_context(tempfile.TemporaryFile()))
            process = subprocess.Popen(
                [*prefix, *program, *options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=logs[rank],
                env=environment,
                # Ctrl-C is for this process, which ends the ranks.
                start_new_session=True,
            )
            stack.callback(_end, process)
            processes.append(process)
        yield Ranks(processes, logs)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):  # a request that was never read
                pipe.close()
