"""The compression benchmark's command line, and the files that it writes.

That it measures is seen by running it: tests may not make network namespaces everywhere.
"""

from pathlib import Path

import pytest

from base.options import Parser
from benchmarks.compression.cases import DEFAULT, MISSING, QUICK
from benchmarks.compression.report import REPORT
from benchmarks.compression.suite import SUITE, add_options, preset
from benchmarks.harness.machine import describe_machine
from benchmarks.harness.record import Finding, Record
from benchmarks.harness.runner import run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--rates", "0"), "argument --rates: must be a positive number, got '0'"),
        (("--rates", "1000"), "argument --rates: must be from 0.1 to 100, got '1000'"),
        (("--rates", "1,10"), "argument --rates: must be a positive number, got '1,10'"),
        (("--world-sizes", "1"), "argument --world-sizes: must be from 2 to 8, got '1'"),
        (("--repeats", "-1"), "argument --repeats: "),
        (("--grace-s", "inf"), "must be a positive number, got 'inf'"),
        (("--no-such-option",), "unrecognized arguments: --no-such-option"),
    ],
)
def test_bad_arguments(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited:
        run(SUITE, arguments)
    stdout, stderr = capsys.readouterr()
    assert (exited.value.code, stdout) == (2, "")
    assert stderr.startswith("error: ") and message in stderr


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
    record = Record(
        benchmark="compression",
        command="./bazelw run //benchmarks:compression",
        machine=describe_machine(("numpy",)),
        settings={"repeats": 1},
        duration_s=60.0,
        rows=(),
        findings=(Finding(name="aim: one", value=1.0, cases=1, aim=2.0, reached=False),),
    )
    page = REPORT.page(record, "plot.png")
    assert record.command in page and "](plot.png)" in page and "MISSED" in page
    assert f"share the machine's {record.machine.cores} cores" in page
    assert all(side in page for side in MISSING)
