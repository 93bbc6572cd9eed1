"""How much memory a process has and has needed."""

from pathlib import Path


def peak_resident_bytes() -> int:
    """Returns the most memory that this process had resident at once, in bytes; of Linux."""
    return _of_status("VmHWM")


def resident_bytes() -> int:
    """Returns how much memory this process has resident, in bytes; of Linux."""
    return _of_status("VmRSS")


def _of_status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    of_name = dict(line.split(":", 1) for line in lines if ":" in line)
    kib, _ = of_name[field].split()
    return 1024 * int(kib)
