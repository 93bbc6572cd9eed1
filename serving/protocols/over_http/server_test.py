"""Each page answers as the protocol says, to GET, HEAD and POST, and says why when it cannot."""

import gzip
import json
import time
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from serving.core.errors import Kind, ServingError
from serving.core.request import Protocol
from serving.errors import StartError
from serving.protocols.over_http.config import HttpConfig
from serving.protocols.over_http.server import HttpServer
from serving.protocols.over_http.testing.malformed import IMAGE, PATH, binary, good, http
from serving.protocols.over_http.testing.running import Running, running
from serving.testing.held_channels import HeldChannel
from serving.testing.local_replica import mean_of_each_row
from serving.testing.served_models import DIGITS

LOGITS = mean_of_each_row({"image": IMAGE})["logits"]


class Control:
    """Loads and unloads one name, and fails as a real one does for others."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def load(self, name: str) -> None:
        self.asked.append(f"load {name}")
        if name != "digits":
            raise ServingError(Kind.INVALID, f"{name!r} is not in the registry")

    async def unload(self, name: str) -> None:
        self.asked.append(f"unload {name}")


CONTROL = Control()


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(control=CONTROL) as here:
        yield here


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (
            "/v2",
            {
                "name": "hpc-gateway",
                "version": "0.1.0",
                "extensions": [
                    "classification",
                    "model_repository",
                    "schedule_policy",
                    "binary_tensor_data",
                ],
            },
        ),
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        (
            "/v2/models/digits",
            {
                "name": "digits",
                "versions": ["1.2.3"],
                "platform": "numpy_none",
                "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 8, 8, 1]}],
                "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, 10]}],
                "properties": {"architecture": "mlp", "max_batch_size": "8"},
            },
        ),
        ("/v2/models/digits/ready", {"name": "digits", "ready": True}),
        ("/v2/models/digits/versions/1.2.3/ready", {"name": "digits", "ready": True}),
    ],
)
def test_facts(server: Running, path: str, expected: Any) -> None:
    answer = server.ask("GET", path)
    assert (answer.status, answer.json) == (200, expected)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["server"] == "hpc-gateway"
    head = server.send(f"HEAD {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode(), is_head=True)
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == answer.headers["content-length"]


@pytest.mark.parametrize("path", [PATH, "/v2/models/digits/versions/1.2.3/infer", f"{PATH}?a=b"])
def test_an_inference_in_json(server: Running, path: str) -> None:
    answer = server.ask("POST", path, good() | {"id": "n 1"})
    (output,) = answer.json["outputs"]
    assert answer.status == 200
    assert answer.json["id"] == "n 1"
    assert (answer.json["model_name"], answer.json["model_version"]) == ("digits", "1.2.3")
    assert (output["name"], output["datatype"], output["shape"]) == ("logits", "FP32", [1, 10])
    np.testing.assert_array_equal(np.array(output["data"], np.float32), LOGITS[0])


def test_a_body_in_chunks_and_one_that_is_compressed(server: Running) -> None:
    body = json.dumps(good()).encode()
    chunked = b"".join(
        f"{len(part):x}\r\n".encode() + part + b"\r\n"
        for part in (body[:7], body[7:100], body[100:])
    )
    head = f"POST {PATH} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    expected = server.ask("POST", PATH, body).body
    assert server.send(head + chunked + b"0\r\n\r\n").body == expected
    for encoding, packed in (("gzip", gzip.compress(body)), ("deflate", zlib.compress(body))):
        assert server.send(http(packed, Content_Encoding=encoding)).body == expected


def test_a_compressed_binary_body(server: Running) -> None:
    head, _, body = binary().partition(b"\r\n\r\n")
    length = dict(line.split(b": ") for line in head.split(b"\r\n")[1:])[
        b"Inference-Header-Content-Length"
    ]
    request = http(
        gzip.compress(body),
        Content_Encoding="gzip",
        Inference_Header_Content_Length=length.decode(),
    )
    assert server.send(request).body == server.send(binary()).body


def test_ids_are_accepted_made_and_returned(server: Running) -> None:
    def id_of(**headers: str) -> str:
        return server.ask("GET", "/v2", headers=headers).headers["x-request-id"]

    assert id_of(**{"X-Request-Id": "a-b_c.1"}) == "a-b_c.1"
    made = {id_of(), id_of(), id_of(**{"x-request-id": "not well formed"})}
    assert len(made) == 3
    refused = server.ask("GET", "/nowhere", headers={"x-request-id": "mine"})
    assert (refused.status, refused.headers["x-request-id"]) == (404, "mine")


def test_the_engine_is_told_of_every_inference(server: Running) -> None:
    outcomes = server.local.recorder.outcomes
    outcomes.clear()
    before = time.monotonic()
    server.ask("POST", PATH, good(), {"x-request-id": "one", "x-request-timeout-ms": "2500"})
    server.ask("POST", PATH, b"{", {"x-request-id": "two"})
    server.ask("POST", PATH, good() | {"parameters": {"priority": 3, "timeout": 1_000_000}})
    server.ask("POST", "/predict", {"inputs": IMAGE.tolist()}, {"x-request-id": "three"})
    server.ask("POST", "/v2/models/none/infer", good())
    right, wrong, urgent, predicted, unknown = outcomes
    after = time.monotonic()
    assert (right.call.protocol, right.call.request_id) == (Protocol.REST, "one")
    assert (right.call.client, right.error, right.batch_size) == ("127.0.0.1", None, 1)
    assert right.call.size_bytes == len(json.dumps(good()))
    assert before + 2.5 <= right.call.deadline <= after + 2.5
    assert wrong.error is not None
    assert (wrong.call.request_id, wrong.error.kind) == ("two", Kind.INVALID)
    assert urgent.call.priority == 3
    assert before + 1 <= urgent.call.deadline <= after + 1
    assert (predicted.call.protocol, predicted.call.model) == (Protocol.PREDICT, "digits")
    assert not unknown.known


def test_the_repository(server: Running) -> None:
    path = "/v2/repository/index"
    entry = {"name": "digits", "version": "1.2.3", "state": "READY", "reason": ""}
    for body in (None, b"", {}, {"ready": True}):
        assert server.ask("POST", path, body).json == [entry]
    refused = server.ask("POST", path, {"ready": 1})
    assert (refused.status, refused.error) == (400, "ready: expected true or false")


def test_models_are_loaded_and_unloaded_where_that_is_allowed(server: Running) -> None:
    CONTROL.asked.clear()
    path = "/v2/repository/models/digits"
    assert server.ask("POST", f"{path}/load").json == {}
    parameters = {"unload_dependents": False}  # Triton's client sends it
    assert server.ask("POST", f"{path}/unload", {"parameters": parameters}).json == {}
    assert CONTROL.asked == ["load digits", "unload digits"]
    refused = server.ask("POST", "/v2/repository/models/letters/load")
    assert (refused.status, refused.error) == (400, "'letters' is not in the registry")
    refused = server.ask("POST", f"{path}/load", {"parameters": {"config": "{}"}})
    assert refused.status == 400
    assert refused.error.startswith("unknown parameter 'config'; accepted: none: a model's")


def test_a_prediction_of_plain_numbers(server: Running) -> None:
    answer = server.ask("POST", "/predict", {"inputs": IMAGE[0, ..., 0].tolist(), "top_k": 2})
    (one,) = answer.json["predictions"]
    odds = np.exp(LOGITS[0].astype(np.float64) - LOGITS.max())
    assert (one["class"], one["classes"]) == ("nine", ["nine", "eight"])
    np.testing.assert_allclose(one["probabilities"], (odds / odds.sum())[[9, 8]], rtol=1e-12)
    assert (answer.json["model"], answer.json["version"]) == ("digits", "1.2.3")
    assert answer.json["request_id"] == answer.headers["x-request-id"]
    assert answer.json["time_ms"] > 0


@pytest.fixture(scope="module")
def unready() -> Iterator[Running]:
    """A server whose only replica is gone, and where nothing may be loaded."""
    with running() as here:
        here.loop.call_soon_threadsafe(here.local.channels["digits", "1.2.3"].change)
        yield here


def test_what_is_not_ready_says_why(unready: Running) -> None:
    reason = "digits 1.2.3: the replica died"
    answer = unready.ask("GET", "/v2/health/ready")
    assert (answer.status, answer.json) == (503, {"ready": False, "error": reason})
    assert unready.ask("GET", "/v2/health/live").status == 200
    answer = unready.ask("GET", "/v2/models/digits/ready")
    assert answer.status == 503
    assert answer.json == {"name": "digits", "ready": False, "error": "the replica died"}
    (entry,) = unready.ask("POST", "/v2/repository/index").json
    assert (entry["state"], entry["reason"]) == ("UNAVAILABLE", "the replica died")
    assert unready.ask("POST", "/v2/repository/index", {"ready": True}).json == []


def test_when_nobody_answers_clients_are_told_to_come_again(unready: Running) -> None:
    answer = unready.ask("POST", PATH, good())
    assert answer.status == 503
    assert "has no replica that can answer: the replica died" in answer.error
    assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize("action", ["load", "unload"])
def test_clients_may_not_load_unless_they_are_allowed(unready: Running, action: str) -> None:
    answer = unready.ask("POST", f"/v2/repository/models/digits/{action}")
    assert answer.status == 403
    assert "its operator can start it with --allow-model-control" in answer.error


def test_a_fault_of_ours_is_a_number(
    unready: Running, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise KeyError("/a/path")

    monkeypatch.setattr(unready.local.engine, "models", fail)
    answer = unready.ask("POST", "/v2/repository/index")
    assert answer.status == 500
    assert answer.error.startswith("internal error, incident ")
    assert answer.error.split()[-1] in caplog.text


def test_no_more_requests_than_the_engine_takes() -> None:
    channel = HeldChannel("a")
    with (
        running((DIGITS, channel), max_requests=1) as here,
        here.connect() as waiting,
    ):
        waiting.sendall(http(json.dumps(good()).encode()))
        while not channel.jobs:
            time.sleep(0.001)
        answer = here.ask("POST", PATH, good())
        assert answer.status == 429
        assert int(answer.headers["retry-after"]) >= 1


def test_the_time_that_a_client_gives_is_kept() -> None:
    with running((DIGITS, HeldChannel("a"))) as here:
        for headers, body in (
            ({"x-request-timeout-ms": "50"}, good()),
            ({}, good() | {"parameters": {"timeout": 50_000}}),
        ):
            answer = here.ask("POST", PATH, body, headers)
            assert (answer.status, answer.error) == (504, "the request was not answered in time")


def test_the_servers_own_limit_of_time_holds_for_all() -> None:
    config = HttpConfig(timeout_s=0.05)
    with running((DIGITS, HeldChannel("a")), config=config) as here:
        answer = here.ask("POST", PATH, good(), {"x-request-timeout-ms": "1000000000"})
        assert answer.status == 504


def test_a_client_that_goes_away_cancels_its_request() -> None:
    channel = HeldChannel("a")
    with running((DIGITS, channel)) as here:
        outcomes = here.local.recorder.outcomes
        with here.connect() as client:
            client.sendall(http(json.dumps(good()).encode()))
            while not channel.jobs:
                time.sleep(0.001)
        while not outcomes:
            time.sleep(0.001)
        assert outcomes[0].error is not None
        assert outcomes[0].error.kind is Kind.CANCELLED
        assert channel.cancelled == channel.jobs


def test_an_address_that_is_taken_is_named(server: Running) -> None:
    async def listen() -> None:
        await HttpServer(server.local.engine, HttpConfig()).listen("127.0.0.1", server.port)

    with pytest.raises(StartError, match=f"cannot listen on 127.0.0.1:{server.port}: the port is"):
        server.run(listen())
