"""Records of no run, for tests."""

from collections.abc import Sequence

from benchmarks.harness.machine import describe_machine
from benchmarks.harness.record import Record, Row, Scalar


def record_of(rows: Sequence[Row], gpu: tuple[str, ...] = (), **settings: Scalar) -> Record:
    """Returns a record of these rows, as if this machine had measured them, with these GPUs."""
    return Record(
        benchmark="example",
        command="./bazelw run //benchmarks:example",
        machine=describe_machine(("numpy",)).model_copy(update={"gpu": gpu}),
        settings=settings,
        duration_s=60.0,
        rows=tuple(rows),
        findings=(),
    )
