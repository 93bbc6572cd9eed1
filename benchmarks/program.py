"""What the programs of all benchmarks do alike: check, import, measure, write."""

import argparse
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

from base.options import EXIT_BAD_INPUT, Parser
from benchmarks.result_files import require_writable, results_directory, write_new

EXIT_FAILED = 1


class Results(NamedTuple):
    """What a benchmark found.

    Attributes:
      name: of its files, which the date precedes.
      record: a `benchmarks.record.Record` as JSON, for programs.
      plot: a PNG; None if there is nothing to draw.
      page: the name of the plot's file -> Markdown, for people.
      status: what the program ends with.
    """

    name: str
    record: str
    plot: bytes | None
    page: Callable[[str], str]
    status: int = 0


class BadInputError(Exception):
    """What was asked for cannot be done here; the message says why."""


class FailedError(Exception):
    """The benchmark has failed; the message says how."""


def run(
    parser: Parser,
    label: str,
    arguments: Sequence[str],
    measure: Callable[[argparse.Namespace, str], Results],
) -> int:
    """Runs a benchmark and writes its results, all of them or, if it is interrupted, none.

    Args:
      parser: of its options, among them `--out`.
      label: Bazel's, of the program.
      arguments: of the command line.
      measure: (options, the command) -> results. Called once all options have been checked; it is
        to import whatever takes long. Raises BadInputError or FailedError.

    Returns:
      The exit status.
    """
    args = parser.parse_args(arguments)
    directory = results_directory(args.out)
    try:
        require_writable(directory)
    except OSError as error:
        parser.error(f"--out: cannot make the directory {directory}: {error.strerror}")
    command = shlex.join(["./bazelw", "run", label, "--", *arguments]).removesuffix(" --")
    try:
        results = measure(args, command)
        _write(results, directory)
    except BadInputError as error:
        return _report(str(error), EXIT_BAD_INPUT)
    except FailedError as error:
        return _report(str(error), EXIT_FAILED)
    return results.status


def _write(results: Results, directory: Path) -> None:
    name = f"{datetime.now(UTC).date().isoformat()}-{results.name}"
    try:
        paths = write_new(directory, name, partial(_contents, results))
    except OSError as error:
        raise FailedError(f"cannot write results to {directory}: {error.strerror}") from error
    for path in paths:
        print(f"wrote {path}")


def _contents(results: Results, name: str) -> Mapping[str, bytes]:
    plot = {} if results.plot is None else {".png": results.plot}
    page = results.page(f"{name}.png")
    return {".json": results.record.encode(), **plot, ".md": page.encode()}


def _report(message: str, status: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status
