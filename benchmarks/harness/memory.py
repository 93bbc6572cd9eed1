"""How much memory a step takes at its peak, beyond what its inputs took before it."""

import ctypes
import gc
import multiprocessing
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.harness.timing import Step, run_once

# Resets the peak of the resident set, see proc_pid_clear_refs(5).
_RESET_PEAK = "5"


class MemoryUnknownError(RuntimeError):
    """The peak could not be measured; the message says why."""


def peak_bytes_in_child(prepare: Callable[[], Step]) -> int:
    """Returns the growth of the resident set while a step runs for the first time, in bytes.

    The step runs in a process forked for it, so that no memory that an earlier step returned to its
    allocator is used again unseen. Call it before this process starts threads of its own: a
    framework that has begun to compute does not survive a fork.

    Args:
      prepare: makes the step, with its inputs, in the child; what this takes does not count.

    Raises:
      MemoryUnknownError: the child failed, or the kernel does not tell a peak.
    """
    if threading.active_count() > 1:
        raise MemoryUnknownError("this process has threads, which a fork would lose")
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_report_peak, args=(prepare, theirs))
    child.start()
    theirs.close()
    try:
        found = ours.recv()
    except EOFError:  # killed, for want of memory as a rule
        found = None
    child.join()
    ours.close()
    if isinstance(found, int):
        return found
    raise MemoryUnknownError(found or f"its process ended with status {child.exitcode}")


def _report_peak(prepare: Callable[[], Step], connection: Connection) -> None:
    try:
        step = prepare()
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        before = _resident("VmRSS")
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
        run_once(step)
        connection.send(max(0, _resident("VmHWM") - before))
    except Exception as error:  # whatever it is, it is the parent's to tell
        connection.send(f"{type(error).__name__}: {error}")


def _resident(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    raise MemoryUnknownError(f"/proc/self/status has no {field}")
