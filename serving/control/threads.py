"""How many threads the frameworks of one replica may have, so that replicas share a machine."""

import os
from pathlib import Path

# Read by OpenMP (PyTorch, our own kernels), by MKL and OpenBLAS, and by XLA's runtime for CPUs,
# each when its library is loaded.
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC")

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores(quota: Path = _QUOTA) -> int:
    """Returns how many cores this process may keep busy: of its affinity, and of its container.

    Args:
        quota: The control group's file, "MICROSECONDS PERIOD" or "max PERIOD".
    """
    cores = len(os.sched_getaffinity(0))
    try:
        allowed, period = quota.read_text().split()
        return max(1, min(cores, int(allowed) // int(period)))
    except (OSError, ValueError):  # no control group, or no quota
        return cores


def fair_threads(replicas: int, cores: int) -> int:
    """Returns how many threads each of `replicas` gets on so many cores: at least one."""
    return max(1, cores // replicas)


def limit_threads(threads: int) -> None:
    """Has the frameworks use so many threads; call it before they are imported."""
    os.environ.update(dict.fromkeys(VARIABLES, str(threads)))
