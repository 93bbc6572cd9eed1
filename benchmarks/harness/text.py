"""What people read of a record: tables, and words about the machine, as text and Markdown."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from benchmarks.harness.machine import in_words
from benchmarks.harness.record import Finding, Record


def ran_on(record: Record) -> str:
    """Returns a paragraph about the machine and the time that the run took."""
    return f"{in_words(record.machine)}. {record.duration_s / 60:.1f} minutes."


def ran_with_settings(record: Record) -> str:
    """Returns the same paragraph, and in it the settings by their names."""
    return f"{ran_on(record)} {', '.join(f'{k} {v}' for k, v in record.settings.items())}."


def fenced(lines: Iterable[str]) -> str:
    """Returns the lines as a block that Markdown leaves as it is."""
    return "\n".join(["```", *lines, "```"])


def fenced_tables(tables: Iterable[Iterable[str]]) -> str:
    """Returns tables as one such block, with an empty line between them."""
    return fenced("\n\n".join("\n".join(lines) for lines in tables).splitlines())


def table_line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Returns the cells in columns: the first flush left, the others flush right."""
    first, *rest = zip(cells, widths, strict=True)
    line = f"{first[0]:<{first[1]}}" + "".join(f"  {cell:>{width}}" for cell, width in rest)
    return line.rstrip()


def table_lines(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yields a table whose columns are as wide as their widest cell."""
    widths = [max(len(row[column]) for row in [titles, *rows]) for column in range(len(titles))]
    for cells in [titles, *rows]:
        yield table_line(cells, widths)


def finding_lines(findings: Sequence[Finding]) -> Iterator[str]:
    """Yields the findings as a table that says of each aim whether it is reached."""
    verdicts: Mapping[bool | None, str] = {True: "reached", False: "MISSED", None: ""}
    rows = [
        (
            finding.name,
            "not measured" if finding.value is None else f"{finding.value:.2f}",
            "" if finding.aim is None else f"{finding.aim:g}",
            verdicts[finding.reached],
            str(finding.cases),
        )
        for finding in findings
    ]
    yield from table_lines(("", "found", "aim", "", "cases"), rows)


def noise_lines(noisy: int, total: int, what: str, left_out: str) -> Iterator[str]:
    """Says how much of a table is no measurement of anything, if some of it is not."""
    if noisy:
        yield (
            f"{noisy} of {total} {what} were measured while other processes were busy (marked !); "
            f"the findings leave {left_out} out."
        )
