"""`load` against real servers: what it sends, counts and reports; load_test is how it measures."""

import json
from pathlib import Path

import grpc
import numpy as np
import pytest
from inference import grpc_service_pb2 as oip
from typer.testing import Result

from serving.client.testing.command_line import only_error, run
from serving.client.testing.echo_server import echo_server
from serving.client.testing.scripted_server import Refuse, Step, scripted_server

IMAGE = {"name": "image", "datatype": "FP32", "shape": [-1, 2]}
METADATA = oip.ModelMetadataResponse(name="echo", inputs=[IMAGE])
ANSWER = oip.ModelInferResponse(model_name="echo")

# Nothing here depends on how much is done in this time.
SHORT = ["--duration-s", "0.29", "--warm-up-s", "0"]


def load(address: str, *arguments: str | Path) -> Result:
    return run("load", "--address", address, "--model", "echo", *SHORT, *arguments)


def scripts(*steps: Step) -> dict[str, list[Step]]:
    """The first request is tried before the load; `steps` are what it meets."""
    return {"ModelMetadata": [METADATA], "ModelInfer": [ANSWER, *steps]}


def test_loads_are_measured_one_after_the_other(tmp_path: Path) -> None:
    with echo_server([IMAGE]) as address:
        result = load(
            address,
            *("--concurrency", "1", "--concurrency", "3", "--rate", "50"),
            *("--arrivals", "constant", "--json", "--output", tmp_path / "report.json"),
        )
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert json.loads((tmp_path / "report.json").read_text()) == report
    one, three, opened = report["loads"]
    assert (one["concurrency"], three["concurrency"], opened["rate"]) == (1, 3, 50.0)
    for row in report["loads"]:
        answered = row["statuses"].pop("answered")
        assert answered > 0
        assert set(row["statuses"].values()) == {0}
        assert row["answered_per_s"] == pytest.approx(answered / row["elapsed_s"])
        latency_s = row["latency_s"]
        ordered = [latency_s[name] for name in ("p50", "p90", "p99", "p99.9", "max")]
        assert ordered == sorted(ordered)
    assert opened["lag_s"]["p50"] <= opened["lag_s"]["max"]
    # Due every 20 ms, the first after 20 ms.
    assert answered == 14
    assert report["machine"].endswith("cpu")
    assert report["options"]["rate"] == [50.0]
    assert report["versions"].keys() >= {"grpcio", "python"}


def test_the_table_has_a_row_a_load() -> None:
    with echo_server([IMAGE]) as address:
        result = load(address, "--concurrency", "2", "--rate", "20")
    head, callers, rate = result.stdout.splitlines()
    assert head.split("  ")[0] == "load"
    assert callers.startswith("2 callers ")
    assert rate.startswith("20/s ")


def test_requests_are_different_and_of_the_batch_size() -> None:
    with scripted_server(scripts()) as server:
        result = load(server.address, "--batch-size", "5", "--distinct", "3", "--concurrency", "2")
        received = [call.request for call in server.received["ModelInfer"]]
    assert result.exit_code == 0, result.output
    requests = [oip.ModelInferRequest.FromString(content) for content in set(received)]
    assert len(requests) == 3
    for request in requests:
        assert list(request.inputs[0].shape) == [5, 2]


def test_a_file_is_sent_as_it_is(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([[7, 8]], np.float32))
    with scripted_server(scripts()) as server:
        result = load(server.address, "--input", tmp_path / "x.npy")
        (content,) = {call.request for call in server.received["ModelInfer"]}
    assert result.exit_code == 0, result.output
    request = oip.ModelInferRequest.FromString(content)
    assert np.frombuffer(request.raw_input_contents[0], np.float32).tolist() == [7, 8]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "refused"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "late"),
        (grpc.StatusCode.INTERNAL, "failed"),
    ],
)
def test_what_is_not_answered_is_counted_with_its_first_words(
    code: grpc.StatusCode, status: str
) -> None:
    with scripted_server(scripts(Refuse(code, "no more"), ANSWER)) as server:
        result = load(server.address, "--json")
        calls = len(server.received["ModelInfer"]) - 1
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)["loads"]
    assert row["statuses"][status] == 1
    assert row["statuses"]["answered"] == calls - 1
    assert row["messages"] == {status: f"{server.address}: no more ({code.name})"}


def test_attempts_are_counted_as_retried() -> None:
    refuse = Refuse(grpc.StatusCode.UNAVAILABLE, pushback_ms=["0"])
    for attempts, status in ((1, "refused"), (2, "retried")):
        with scripted_server(scripts(refuse, ANSWER)) as server:
            result = load(server.address, "--json", "--attempts", str(attempts))
        (row,) = json.loads(result.stdout)["loads"]
        assert row["statuses"][status] == 1


def test_a_load_without_answers_fails() -> None:
    with scripted_server(scripts(Refuse(grpc.StatusCode.INTERNAL, "broken"))) as server:
        result = load(server.address)
    assert result.exit_code == 1
    assert result.stderr == "error: a load had no answers\n"
    assert "1 caller, failed: " in result.stdout
    assert "broken (INTERNAL)" in result.stdout


def test_what_is_wrong_is_told_before_the_load(tmp_path: Path) -> None:
    with echo_server([IMAGE]) as address:
        for arguments, message in (
            (["--rate", "0"], "rate_hz is 0.0; expected more than 0"),
            (["--rate", "nan"], "rate_hz is nan"),
            (["--duration-s", "0"], "duration_s is 0.0"),
            (["--warm-up-s", "-1"], "warm_up_s is -1.0; expected 0 or more"),
            (["--concurrency", "0"], "concurrency is 0"),
            (["--attempts", "6"], "max_attempts is 6; expected from 1 to 5"),
            (["--model", "other"], "unknown model 'other' (NOT_FOUND)"),
            (["--input", tmp_path / "absent"], "cannot read"),
            (["--output", tmp_path / "no" / "report.json"], "cannot write"),
        ):
            assert message in only_error(load(address, *arguments), 2)
