"""The program behind every pytest_test: runs pytest by Bazel's test protocol.

Reference: https://bazel.build/reference/test-encyclopedia
"""

import os
import sys
from pathlib import Path

import pytest


class Shard:
    """Deals the collected cases out to the shards in turn, so that all have about as many."""

    def __init__(self, index: int, total: int) -> None:
        self._index = index
        self._total = total

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        mine = items[self._index :: self._total]
        config.hook.pytest_deselected(items=[item for item in items if item not in mine])
        items[:] = mine


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
    plugins: list[object] = []
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
    sys.exit(main())
