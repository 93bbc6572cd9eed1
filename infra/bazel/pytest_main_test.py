"""Tests of the runner by Bazel's protocol: results, filter, shards, no success without a test."""

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

_CASES = """
import pytest

@pytest.mark.parametrize("n", range(5))
def test_number(n):
    assert n < 5

def test_name():
    pass
"""

# A case takes longer than hypothesis allows by itself, 200 ms.
_SLOW_CASE = """
import time
from hypothesis import given, settings, strategies

@given(strategies.just(0.3))
@settings(max_examples=2{more})
def test_slow(seconds):
    time.sleep(seconds)
    assert settings.default.derandomize and settings.default.database is None
"""


def _run(
    tmp_path: Path, *arguments: str, source: str = _CASES, **environment: str
) -> tuple[int, list[str]]:
    """Runs the cases and returns the exit code and the names of the cases in the results file."""
    cases = tmp_path / "cases_test.py"
    cases.write_text(source)
    results = tmp_path / "test.xml"
    with (tmp_path / "log").open("w") as log:
        done = subprocess.run(
            [sys.executable, "infra/bazel/pytest_main.py", str(cases), *arguments],
            env={
                "PYTHONPATH": os.environ["PYTHONPATH"],
                "TEST_TMPDIR": str(tmp_path),
                "XML_OUTPUT_FILE": str(results),
                **environment,
            },
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    return done.returncode, [
        case.attrib["name"] for case in ElementTree.parse(results).iter("testcase")
    ]


def test_writes_every_case_into_the_results_file(tmp_path: Path) -> None:
    code, names = _run(tmp_path)
    assert (code, len(names)) == (0, 6)


_MEASURING = """
import pytest

@pytest.mark.parametrize("n", [1, 20])
def test_measures(n, record_property):
    record_property("error", f"{n}e-06")
    record_property("steps", n)
    assert n < 20

def test_measures_nothing():
    pass
"""


def test_shows_what_was_measured_at_the_end_of_the_log(tmp_path: Path) -> None:
    _run(tmp_path, source=_MEASURING)
    log = (tmp_path / "log").read_text().splitlines()
    start = next(i for i, line in enumerate(log) if line.strip("= ") == "measured")
    assert log[start + 1 : start + 4] == [
        "                   error   steps",
        "test_measures[1]   1e-06   1",
        "test_measures[20]  20e-06  20",
    ]
    # Where nothing is measured, nothing is shown.
    _run(tmp_path)
    assert "= measured =" not in (tmp_path / "log").read_text()


def test_honours_the_filter(tmp_path: Path) -> None:
    assert _run(tmp_path, TESTBRIDGE_TEST_ONLY="name") == (0, ["test_name"])


def test_hands_arguments_to_pytest(tmp_path: Path) -> None:
    assert _run(tmp_path, "-k", "name") == (0, ["test_name"])


def test_shards_cover_every_case_once_and_keep_neighbours_together(tmp_path: Path) -> None:
    status = tmp_path / "status"
    shards = [
        _run(
            tmp_path,
            TEST_TOTAL_SHARDS="4",
            TEST_SHARD_INDEX=str(index),
            TEST_SHARD_STATUS_FILE=str(status),
        )
        for index in range(4)
    ]
    assert status.exists()
    assert all(code == 0 for code, _ in shards)
    assert [name for _, names in shards for name in names] == _run(tmp_path)[1]
    assert {len(names) for _, names in shards} == {1, 2}


def test_a_slow_case_of_hypothesis_is_no_failure(tmp_path: Path) -> None:
    assert _run(tmp_path, source=_SLOW_CASE.format(more="")) == (0, ["test_slow"])


def test_a_deadline_of_hypothesis_is_refused(tmp_path: Path) -> None:
    assert _run(tmp_path, source=_SLOW_CASE.format(more=", deadline=5000"))[0] != 0


@pytest.mark.parametrize(
    "source", ["def test_fails(): assert False", "import nothing_of_that_name"]
)
def test_failure_is_failure(tmp_path: Path, source: str) -> None:
    assert _run(tmp_path, source=source)[0] != 0


def test_no_test_is_failure(tmp_path: Path) -> None:
    assert _run(tmp_path, source="x = 1")[0] != 0
    assert _run(tmp_path, TESTBRIDGE_TEST_ONLY="nothing")[0] != 0
