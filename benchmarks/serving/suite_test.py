"""The benchmark of serving: its command line, and servers that answer through it.

That it compares with Ray Serve is seen by running it: each of the two Rays takes half a minute to
start.
"""

from pathlib import Path

import pytest

from base.options import Parser
from benchmarks.harness.record import Record
from benchmarks.harness.runner import run
from benchmarks.serving import cases
from benchmarks.serving.cases import DEFAULT, QUICK
from benchmarks.serving.findings import loads
from benchmarks.serving.suite import SUITE, add_options, preset

# One of our environment, and one of the peers'.
SERVERS = (cases.FLOOR_SERVER, cases.MLSERVER_SERVER)
SIDES = [
    cases.FLOOR,
    cases.MLSERVER_GRPC,
    cases.MLSERVER_GRPC + cases.BATCHED,
    cases.MLSERVER_JSON,
    cases.MLSERVER_JSON + cases.BATCHED,
]


def test_options_replace_the_presets() -> None:
    parser = Parser("Options.")
    add_options(parser)
    parse = parser.parse_args
    assert preset(parse([])) == DEFAULT
    assert preset(parse(["--quick"])) == QUICK
    chosen = preset(parse(["--quick", "--rates", "--callers", "4", "--seconds", "0.1"]))
    assert chosen == QUICK._replace(rates=[], callers=[4], seconds=0.1)


def test_who_is_asked_is_written_down(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--quick", "--models", cases.MLP, "--callers", "2", "--rates", "20"]
    options += ["--tensors-mib", "--seconds", "0.1", "--grace-s", "0.1"]
    assert run(SUITE, [*options, "--servers", *SERVERS, "--out", str(tmp_path)]) == 0
    (content,) = tmp_path.glob("*.json")
    record = Record.model_validate_json(content.read_text())
    assert content.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    closed, fixed = loads(record.rows)
    assert (closed.table, fixed.table) == (cases.CLOSED_TABLE, cases.OPEN_TABLE)
    for load in (closed, fixed):
        assert [*load.rows] == SIDES
        for row in load.rows.values():
            assert row.metrics["failures"] == 0
            assert row.metrics["requests_per_s"] > 0
            assert row.metrics["p50_ms"] <= row.metrics["p99_ms"]
    rest = [row.side for row in record.rows if row.table == cases.SERVER_TABLE]
    assert rest == [*SERVERS]
    printed = capsys.readouterr().out
    for text in (printed, content.with_suffix(".md").read_text()):
        assert f"{cases.MLP}, 2 callers" in text and f"{cases.MLP}, 20 requests/s" in text
