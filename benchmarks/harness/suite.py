"""What a benchmark is: the options that it takes, what it measures then, and how that reads."""

import argparse
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from base.options import Parser
from benchmarks.harness.machine import Machine
from benchmarks.harness.record import Finding, Record, Row, Scalar
from benchmarks.harness.text import fenced, finding_lines, ran_on


class BadInputError(Exception):
    """What was asked for cannot be done here; the message says why."""


class FailedError(Exception):
    """The benchmark has failed; the message says how."""


def _findings(record: Record) -> Iterable[str]:
    return ("", "Findings", *finding_lines(record.findings))


class Report(NamedTuple):
    """How a record reads; each part is made of the record alone, so that it can be made again.

    Attributes:
      findings: The numbers that sum up the rows; called before the record has any.
      plot: A PNG; None if there is nothing to draw.
      plot_shows: What is drawn, in words.
      sections: Of the page, below the plot, as Markdown.
      closing: The lines that a run ends with on the terminal.
      introduction: Of the page, above the plot.
      status: What the program ends with.
    """

    findings: Callable[[Record], Iterable[Finding]]
    plot: Callable[[Record], bytes | None]
    plot_shows: str
    sections: Callable[[Record], list[str]]
    closing: Callable[[Record], Iterable[str]] = _findings
    introduction: Callable[[Record], list[str]] = lambda record: [ran_on(record)]
    status: Callable[[Record], int] = lambda record: 0

    def page(self, record: Record, image: str | None) -> str:
        """Returns the whole record for people, as Markdown; `image` is the name of the plot."""
        parts = [f"# {record.benchmark}, {record.machine.date}", fenced([record.command])]
        parts += self.introduction(record)
        parts += [f"![{self.plot_shows}]({image})"] if image else []
        return "\n\n".join([*parts, *self.sections(record)]) + "\n"


class Measurement(NamedTuple):
    """A benchmark whose options are known.

    Attributes:
      results_name: Of its files, which the date precedes.
      distributions: Python's, whose versions are recorded.
      settings: What of the options a reader of the rows has to know.
      rows: Measures on this machine, printing as it goes. Raises FailedError.
      report: How the rows read.
    """

    results_name: str
    distributions: tuple[str, ...]
    settings: Mapping[str, Scalar]
    rows: Callable[[Machine], Iterable[Row]]
    report: Report


class Suite(NamedTuple):
    """A benchmark, known before anything that takes long is imported.

    Attributes:
      name: Of the target `//benchmarks:NAME`, and of the folder.
      documentation: Its first line is shown as help.
      add_options: Adds its options to a parser that has `--out`.
      prepare: The options -> what to measure. It is to import whatever takes long. Raises
        BadInputError.
    """

    name: str
    documentation: str
    add_options: Callable[[Parser], None]
    prepare: Callable[[argparse.Namespace], Measurement]
