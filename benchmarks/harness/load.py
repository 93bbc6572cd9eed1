"""What other processes take of the cores that a benchmark runs on.

A core that something else keeps busy does not slow all sides alike: threads that wait for each
other in a barrier lose whole time slices. A short OpenMP region on two cores was seen to take 12 ms
instead of 0.2.
"""

import os
import time
from pathlib import Path
from typing import NamedTuple

# Others taking this share of the cores, or less, leave a machine quiet.
_QUIET_SHARE = 0.08
_LOOK_S = 0.1


def quiet_cores(num_cores: int | None = None) -> float:
    """Returns how many cores others may take of a machine that is still called quiet.

    Args:
      num_cores: Of the machine; None: those that this process may use.
    """
    return _QUIET_SHARE * (num_cores or len(os.sched_getaffinity(0)))


class OtherLoad:
    """Watches the other processes from its making on."""

    def __init__(self) -> None:
        self._start = _read_clocks()

    def cores(self) -> float:
        """Returns how many cores the others have kept busy on average since the start."""
        now, start = _read_clocks(), self._start
        others_s = (now.busy_s - start.busy_s) - (now.own_s - start.own_s)
        return max(0.0, others_s / max(now.wall_s - start.wall_s, 1e-9))


class Grace:
    """The time that a run may spend on waiting for a quiet machine, in seconds."""

    def __init__(self, seconds: float) -> None:
        self._left_s = seconds

    def wait(self) -> None:
        """Returns when the machine is quiet or nothing is left."""
        while self._left_s > 0:
            load = OtherLoad()
            time.sleep(_LOOK_S)
            if load.cores() <= quiet_cores():
                return
            self._left_s -= _LOOK_S

    def spend(self, seconds: float) -> bool:
        """Takes the time of a repetition out, if that much is left; returns whether it was."""
        if self._left_s < seconds:
            return False
        self._left_s -= seconds
        return True


class _Clocks(NamedTuple):
    wall_s: float
    busy_s: float
    own_s: float


def _read_clocks() -> _Clocks:
    return _Clocks(time.monotonic(), _busy_s(), time.process_time())


def _busy_s() -> float:
    """Seconds that the CPUs of this process have been busy since the machine started."""
    own = {f"cpu{index}" for index in os.sched_getaffinity(0)}
    ticks = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name in own:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
            ticks += user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK")
