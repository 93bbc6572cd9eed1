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
    plugins: list[object] = [NoDeadlines()]
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
