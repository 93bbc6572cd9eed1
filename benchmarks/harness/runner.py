"""Runs any benchmark: checks the options, measures, and writes the results."""

import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from base.options import Parser, directory_name
from base.program import EXIT_BAD_INPUT, EXIT_FAILED
from benchmarks.harness.machine import describe_machine
from benchmarks.harness.record import Record
from benchmarks.harness.result_files import require_writable, results_directory, write_new
from benchmarks.harness.suite import BadInputError, FailedError, Measurement, Report, Suite


def run(suite: Suite, arguments: Sequence[str]) -> int:
    """Runs a benchmark and writes its results, all of them or, if it is interrupted, none.

    Args:
      suite: The benchmark.
      arguments: Of the command line.

    Returns:
      The exit status.
    """
    command = ["./bazelw", "run", f"//benchmarks:{suite.name}", "--"]
    parser = _make_parser(suite, usage=shlex.join(command))
    args = parser.parse_args(arguments)
    directory = results_directory(args.out)
    try:
        require_writable(directory)
    except OSError as error:
        parser.error(f"--out: cannot make the directory {directory}: {error.strerror}")
    try:
        measurement = suite.prepare(args)
        words = shlex.join([*command, *arguments]).removesuffix(" --")
        record = _measure(suite.name, words, measurement)
        _write(measurement, record, directory)
    except BadInputError as error:
        return _refuse(str(error), EXIT_BAD_INPUT)
    except FailedError as error:
        return _refuse(str(error), EXIT_FAILED)
    return measurement.report.status(record)


def _make_parser(suite: Suite, usage: str) -> Parser:
    parser = Parser(suite.documentation)
    parser.prog = usage
    suite.add_options(parser)
    help_text = "directory for the results"
    parser.add_argument("--out", "--output", type=directory_name, help=help_text)
    return parser


def _measure(name: str, command: str, measurement: Measurement) -> Record:
    start = time.monotonic()
    machine = describe_machine(measurement.distributions)
    rows = tuple(measurement.rows(machine))
    record = Record(
        benchmark=name,
        command=command,
        machine=machine,
        settings=dict(measurement.settings),
        duration_s=time.monotonic() - start,
        rows=rows,
        findings=(),
    )
    found = tuple(measurement.report.findings(record))
    record = record.model_copy(update={"findings": found})
    for line in measurement.report.closing(record):
        print(line, flush=True)
    return record


def _write(measurement: Measurement, record: Record, directory: Path) -> None:
    name = f"{datetime.now(UTC).date().isoformat()}-{measurement.results_name}"
    try:
        paths = write_new(directory, name, partial(_contents, measurement.report, record))
    except OSError as error:
        raise FailedError(f"cannot write results to {directory}: {error.strerror}") from error
    for path in paths:
        print(f"wrote {path}")


def _contents(report: Report, record: Record, name: str) -> Mapping[str, bytes]:
    plot = report.plot(record)
    image = {} if plot is None else {".png": plot}
    text = report.page(record, f"{name}.png" if image else None)
    return {".json": record.model_dump_json(indent=1).encode(), **image, ".md": text.encode()}


def _refuse(message: str, status: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status
