"""Tests that the summary counts cases, and that nothing that went wrong counts as nothing."""

import json
import subprocess
import sys
from pathlib import Path

_XML = """<testsuites><testsuite>
<testcase classname="m" name="a"/><testcase classname="m" name="b"/>
<testcase classname="m" name="c"><skipped/></testcase>{more}</testsuite></testsuites>"""
_FAILURE = '<testcase classname="m" name="d"><failure/></testcase>'


def _summary(
    tmp_path: Path, *actions: tuple[str, str | None], steps: tuple[str, ...] = ()
) -> tuple[int, list[str]]:
    lines = [json.dumps({"id": {"started": {}}, "started": {}})]
    for number, (status, xml) in enumerate(actions):
        outputs = [{"name": "test.log", "uri": "file:///nowhere"}]
        if xml is not None:
            path = tmp_path / f"{number} test.xml"
            path.write_text(xml)
            outputs.append({"name": "test.xml", "uri": path.as_uri()})
        lines.append(
            json.dumps(
                {
                    "id": {"testResult": {"label": f"//room:t{number}"}},
                    "testResult": {"status": status, "testActionOutput": outputs},
                }
            )
        )
    events = tmp_path / "events.json"
    events.write_text("\n".join(lines))
    arguments = [argument for step in steps for argument in ("--step", step)]
    done = subprocess.run(
        [sys.executable, "infra/ci/summary.py", "--events", str(events), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.splitlines()


def test_counts_cases_of_all_targets(tmp_path: Path) -> None:
    passing = ("PASSED", _XML.format(more=""))
    assert _summary(tmp_path, passing, passing) == (0, ["4 passed, 0 failed, 2 skipped"])


def test_names_the_failed_case(tmp_path: Path) -> None:
    code, lines = _summary(
        tmp_path, ("FAILED", _XML.format(more=_FAILURE)), steps=("bazel test=3", "lint=0")
    )
    assert code == 1
    assert lines == ["FAILED //room:t0 m.d", "3 passed, 1 failed, 1 skipped"]


def test_timeout_and_crash_are_failures(tmp_path: Path) -> None:
    code, lines = _summary(tmp_path, ("TIMEOUT", _XML.format(more="")), ("FAILED", None))
    assert code == 1
    assert lines[-1] == "2 passed, 2 failed, 1 skipped"


def test_a_target_that_does_not_build_is_a_failure(tmp_path: Path) -> None:
    code, lines = _summary(tmp_path, ("PASSED", _XML.format(more="")), steps=("bazel test=1",))
    assert (code, lines[-1]) == (1, "2 passed, 1 failed, 1 skipped")


def test_failed_lint_is_a_failure(tmp_path: Path) -> None:
    code, lines = _summary(
        tmp_path, ("PASSED", _XML.format(more="")), steps=("bazel test=0", "lint=1")
    )
    assert (code, lines) == (1, ["FAILED lint", "2 passed, 1 failed, 1 skipped"])


def test_no_test_is_a_failure(tmp_path: Path) -> None:
    code, lines = _summary(tmp_path, steps=("bazel test=4", "lint=0"))
    assert code == 1
    assert lines[-1] == "1 passed, 1 failed"
