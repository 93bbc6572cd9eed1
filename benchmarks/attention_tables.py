"""The tables of the attention benchmark's record, known before a framework is imported."""

from benchmarks.load import quiet_cores
from benchmarks.record import Row

CEILING_TABLE = "ceiling"
MEMORY_TABLE = "memory"
TIME_TABLE = "time"


def is_noisy(row: Row) -> bool:
    """Whether others were busy while this was timed."""
    return row.metrics.get("others_cores", 0.0) > quiet_cores()
