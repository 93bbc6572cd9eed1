"""The program behind every pytest_test: runs pytest by Bazel's test protocol.

Reference: https://bazel.build/reference/test-encyclopedia
"""

import os
import sys
from pathlib import Path

import pytest


class Shard:
    """Cuts the collected cases into runs of about as many, one for each shard.

    Neighbours stay together: they share what a fixture or a cache of the process holds.
    """

    def __init__(self, index: int, total: int) -> None:
        self._index = index
        self._total = total

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        first, end = (len(items) * i // self._total for i in (self._index, self._index + 1))
        config.hook.pytest_deselected(items=items[:first] + items[end:])
        items[:] = items[first:end]


class NoDeadlines:
    """Refuses a hypothesis test that fails where a case takes long: machines differ in speed."""

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        function = getattr(item, "obj", None)
        settings = getattr(function, "_hypothesis_internal_use_settings", None)
        if settings is not None and settings.deadline is not None:
            raise pytest.UsageError(
                f"{item.nodeid}: settings(deadline=...) must be None, got {settings.deadline}"
            )


class Measurements:
    """Shows in the log what tests measured, whether they passed or not, as a table.

    A test says it with pytest's own fixture, `record_property("logits", "3.1e-07 of 1e-05")`, which
    puts it into `test.xml` too.
    """

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        tables: dict[tuple[str, ...], list[list[str]]] = {}
        for report in _calls(terminalreporter):
            measured = {name: str(value) for name, value in report.user_properties}
            if measured:
                case = report.nodeid.rpartition("::")[2]
                tables.setdefault(tuple(measured), []).append([case, *measured.values()])
        for names, cases in tables.items():
            terminalreporter.section("measured")
            rows = [["", *names], *cases]
            widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
            for row in rows:
                cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
                terminalreporter.write_line("  ".join(cells).rstrip())


def _calls(terminalreporter: pytest.TerminalReporter) -> list[pytest.TestReport]:
    """Returns the reports of test functions, in the order in which they ran."""
    reports = [report for kind in terminalreporter.stats.values() for report in kind]
    calls = [r for r in reports if isinstance(r, pytest.TestReport) and r.when == "call"]
    return sorted(calls, key=lambda report: report.start)


def _arguments(environ: dict[str, str]) -> list[str]:
    """Returns pytest's options for this run, other than the files."""
    arguments = [
        "--import-mode=importlib",
        "--strict-markers",
        "-p",
        "no:cacheprovider",
        "-o",
        "markers=gpu: needs an NVIDIA GPU",
        "-o",
        "junit_family=xunit2",
        # No test may write beside the sources, which are links into the workspace.
        f"--basetemp={Path(environ['TEST_TMPDIR']) / 'pytest'}",
        "-ra",
    ]
    if output := environ.get("XML_OUTPUT_FILE"):
        arguments.append(f"--junitxml={output}")
    if expression := environ.get("TESTBRIDGE_TEST_ONLY"):
        arguments += ["-k", expression]
    return arguments


def main() -> int:
    environ = dict(os.environ)
    os.environ.setdefault(
        "HOME", environ["TEST_TMPDIR"]
    )  # Bazel sets none, and libraries cache there
    # As hypothesis loads its settings for CI: the same cases in each run, however slow the machine.
    os.environ.setdefault("CI", "true")
    plugins: list[object] = [NoDeadlines(), Measurements()]
    total = int(environ.get("TEST_TOTAL_SHARDS", "1"))
    if total > 1:
        Path(environ["TEST_SHARD_STATUS_FILE"]).touch()
        plugins.append(Shard(int(environ["TEST_SHARD_INDEX"]), total))
    code = pytest.main([*_arguments(environ), *sys.argv[1:]], plugins=plugins)
    if code == pytest.ExitCode.NO_TESTS_COLLECTED:
        if total > 1:
            return 0  # more shards than cases; the other shards ran them
        print(
            "error: no test ran; look at --test_filter and at the names of the test functions",
            file=sys.stderr,
        )
    return int(code)


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # An interpreter with torch and JAX in it takes a second to take them apart, for nothing.
    os._exit(status)
