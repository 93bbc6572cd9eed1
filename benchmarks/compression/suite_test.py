"""The compression benchmark's command line, and the files that it writes.

That it measures is seen by running it: tests may not make network namespaces everywhere.
"""

from pathlib import Path

import pytest

from base.options import Parser
from benchmarks.compression.cases import DEFAULT, MISSING, QUICK
from benchmarks.compression.report import REPORT
from benchmarks.compression.suite import SUITE, add_options, preset
from benchmarks.harness.record import Finding
from benchmarks.harness.runner import run
from benchmarks.harness.testing import record_of


def test_missing_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run(SUITE, ["--out", str(tmp_path / "results")]) == 2
    stdout, stderr = capsys.readouterr()
    assert stdout == "" and "apt-get install iproute2" in stderr
    assert stderr.startswith("error: ip and tc not found")
    assert not (tmp_path / "results").exists()


def test_options_replace_the_presets() -> None:
    parser = Parser("Options.")
    add_options(parser)
    parse = parser.parse_args
    assert preset(parse([])) == DEFAULT
    assert preset(parse(["--quick"])) == QUICK
    chosen = preset(parse(["--quick", "--rates", "1", "2.5", "--world-sizes", "4"]))
    assert chosen == QUICK._replace(rates=[1.0, 2.5], world_sizes=[4])


def test_page_says_what_was_run_and_what_was_not() -> None:
    aim = Finding(name="aim: one", value=1.0, cases=1, aim=2.0, reached=False)
    record = record_of([], repeats=1).model_copy(update={"findings": (aim,)})
    page = REPORT.page(record, "plot.png")
    assert record.command in page and "](plot.png)" in page and "MISSED" in page
    assert f"share the machine's {record.machine.cores} cores" in page
    assert all(side in page for side in MISSING)
