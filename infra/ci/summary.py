"""Counts the test cases of a Bazel run and prints `N passed, N failed` as the last line.

Reads the run's build events, so that it counts what this run tested, cached results included, and
nothing that an earlier run left behind. Needs nothing but the standard library. Exits with 1 on any
failure, and when no test ran.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlparse
from xml.etree import ElementTree


class Counts(NamedTuple):
    """Test cases by outcome, and the names of those that failed."""

    passed: int
    skipped: int
    failed: tuple[str, ...]

    def __add__(self, other: Counts) -> Counts:  # type: ignore[override]
        return Counts(
            self.passed + other.passed, self.skipped + other.skipped, self.failed + other.failed
        )


def results(events: Iterable[str]) -> Iterator[tuple[str, str, Path | None]]:
    """Yields (label, status, results file) of every test action.

    Args:
      events: Build events, one JSON object a line.
    """
    for line in events:
        event = json.loads(line)
        if "testResult" not in event:
            continue
        outputs = event["testResult"].get("testActionOutput", [])
        files = [
            Path(unquote(urlparse(output["uri"]).path))
            for output in outputs
            if output["name"] == "test.xml"
        ]
        yield (
            event["id"]["testResult"]["label"],
            event["testResult"]["status"],
            files[0] if files else None,
        )


def count(label: str, status: str, xml: Path | None) -> Counts:
    """Counts the cases of one test action.

    An action that failed without a failed case (it crashed, timed out or wrote no results) counts
    as one failure.
    """
    passed, skipped, failed = 0, 0, []
    if xml and xml.exists():
        for case in ElementTree.parse(xml).iter("testcase"):
            if case.find("failure") is not None or case.find("error") is not None:
                failed.append(f"{label} {case.get('classname', '')}.{case.get('name', '')}")
            elif case.find("skipped") is not None:
                skipped += 1
            else:
                passed += 1
    if status != "PASSED" and not failed:
        failed.append(f"{label} ({status})")
    return Counts(passed, skipped, tuple(failed))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--events", type=Path, required=True, help="what --build_event_json_file wrote"
    )
    parser.add_argument("--step", action="append", default=[], metavar="NAME=EXIT_STATUS")
    options = parser.parse_args()

    total = Counts(0, 0, ())
    with options.events.open() as events:
        for label, status, xml in results(events):
            total += count(label, status, xml)
    ran = total.passed + len(total.failed)
    for step in options.step:
        name, _, status = step.rpartition("=")
        if name == "bazel test":
            # A target that does not build has no test action to count.
            if status != "0" and not total.failed:
                total += Counts(0, 0, (f"{name} (exit status {status})",))
        else:
            total += Counts(status == "0", 0, () if status == "0" else (name,))

    for name in total.failed:
        print(f"FAILED {name}")
    if not ran:
        print("error: no test ran")
    skipped = f", {total.skipped} skipped" if total.skipped else ""
    print(f"{total.passed} passed, {len(total.failed)} failed{skipped}")
    return int(bool(total.failed) or not ran)


if __name__ == "__main__":
    sys.exit(main())
