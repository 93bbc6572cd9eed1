"""Tells with each report what the processes of a run use of this machine.

A thread looks every so many seconds, beside training: a look takes about a millisecond, and a few
more for each process.
"""

import threading
import time
from collections import defaultdict

from train.callbacks.callbacks import Closing
from train.callbacks.gpus import gpu_usage, open_nvml
from train.callbacks.process_tree import usage_of
from train.events import Action, Began, Event, GpuUsage, Resources, Stepped, Tell


class ResourceSampler(Closing):
    """Answers reports with `Resources`.

    Args:
        every_s: Seconds from one look to the next; a report is a look, too.
        root: Id of the process that all of the run descend from.
    """

    def __init__(self, every_s: float, root: int):
        self._every_s = every_s
        self._root = root
        self._nvml = open_nvml()
        self._lock = threading.Lock()
        self._has_ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_looking, name="resources", daemon=True)
        self._before, self._since = usage_of(root), time.monotonic()
        self._memory_bytes = 0
        self._gpus: dict[str, list[GpuUsage]] = defaultdict(list)

    def __call__(self, event: Event) -> Action | None:
        match event:
            case Began():
                self._thread.start()
            case Stepped():
                return Tell(self._report(event.step))
        return None

    def close(self) -> None:
        """See `Closing`."""
        self._has_ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _keep_looking(self) -> None:
        while not self._has_ended.wait(self._every_s):
            with self._lock:
                self._look()

    def _look(self) -> None:
        """Notes what is in use at this moment."""
        self._used = usage_of(self._root)
        self._memory_bytes = max(self._memory_bytes, self._used.memory_bytes)
        if self._nvml is not None:
            for number, usage in enumerate(gpu_usage(self._nvml)):
                if usage is not None:
                    self._gpus[str(number)].append(usage)

    def _report(self, step: int) -> Resources:
        """Returns what was used since the report before."""
        with self._lock:
            self._look()
            now, before, used = time.monotonic(), self._before, self._used
            seconds = max(now - self._since, 1e-9)
            found = Resources(
                step=step,
                cpu_cores=(used.cpu_s - before.cpu_s) / seconds,
                memory_bytes=self._memory_bytes,
                disk_read_bytes_per_s=(used.disk_read_bytes - before.disk_read_bytes) / seconds,
                disk_written_bytes_per_s=(
                    (used.disk_written_bytes - before.disk_written_bytes) / seconds
                ),
                network_received_bytes_per_s=(
                    (used.network_received_bytes - before.network_received_bytes) / seconds
                ),
                network_sent_bytes_per_s=(
                    (used.network_sent_bytes - before.network_sent_bytes) / seconds
                ),
                gpus={number: _mean(usages) for number, usages in self._gpus.items()},
            )
            self._before, self._since, self._memory_bytes = used, now, 0
            self._gpus.clear()
        return found


def _mean(usages: list[GpuUsage]) -> GpuUsage:
    number = len(usages)
    return GpuUsage(
        sum(usage.utilization for usage in usages) / number,
        round(sum(usage.memory_bytes for usage in usages) / number),
        sum(usage.power_w for usage in usages) / number,
    )
