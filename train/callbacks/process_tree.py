"""What the processes of a run use of this machine, as the system counts it."""

import multiprocessing
import os
from contextlib import suppress
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Usage:
    """Of a process and those below it, as of now.

    Attributes:
        cpu_s: Processor time, in seconds; of processes that have ended, too.
        memory_bytes: Resident; what several share counts for each.
        disk_read_bytes: From devices, and not from the system's cache.
        disk_written_bytes: Likewise.
        network_received_bytes: By all interfaces of the machine but its loopback, for whomever: the
            system does not count them by process.
        network_sent_bytes: Likewise.
    """

    cpu_s: float
    memory_bytes: int
    disk_read_bytes: int
    disk_written_bytes: int
    network_received_bytes: int
    network_sent_bytes: int


def usage_of(root: int) -> Usage:
    """Returns what a process and all below it use, and have used since they were started.

    The system adds the processor time and the disk's bytes of a process that has ended to those of
    the one that waited for it.

    Args:
        root: Its id.
    """
    process = psutil.Process(root)
    cpu_s, memory_bytes, read, written = 0.0, 0, 0, 0
    for member in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):  # it ended meanwhile
            cpu_s += sum(member.cpu_times()[:4])  # user, system, and of children likewise
            memory_bytes += member.memory_info().rss
            disk = member.io_counters()
            read, written = read + disk.read_bytes, written + disk.write_bytes
    interfaces = psutil.net_io_counters(pernic=True)
    outward = [counts for name, counts in interfaces.items() if name != "lo"]
    return Usage(
        cpu_s=cpu_s,
        memory_bytes=memory_bytes,
        disk_read_bytes=read,
        disk_written_bytes=written,
        network_received_bytes=sum(counts.bytes_recv for counts in outward),
        network_sent_bytes=sum(counts.bytes_sent for counts in outward),
    )


def root_of_run() -> int:
    """Returns the process that all of a run descend from: what started the ranks, or this one."""
    parent = multiprocessing.parent_process()
    return os.getpid() if parent is None or parent.pid is None else parent.pid
