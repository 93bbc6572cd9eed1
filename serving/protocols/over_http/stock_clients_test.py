"""Conformance: published clients that are not ours understand the servers, as they come.

Each runs in a process of its own with other packages (triton_http_driver.py, kserve_driver.py); the
commands are in the environment. curl is Debian's.
"""

import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.protocols.over_grpc.options import GrpcOptions
from serving.protocols.over_grpc.server import GrpcServer
from serving.protocols.over_http.testing.running import PATIENCE_S, Running, running
from serving.testing.local_replica import mean_of_each_row

IMAGES = np.random.default_rng(7).random((3, 8, 8, 1), np.float32)
LOGITS = mean_of_each_row({"image": IMAGES})["logits"]


class Servers:
    """HTTP and gRPC over one engine, in one loop."""

    def __init__(self, http: Running, grpc_address: str) -> None:
        self.http, self.grpc_address = http, grpc_address

    @property
    def http_address(self) -> str:
        return f"{self.http.host}:{self.http.port}"


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with running() as http:

        async def start() -> tuple[GrpcServer, str]:
            server = GrpcServer(http.local.engine, GrpcOptions())
            return server, await server.listen("127.0.0.1", 0)

        grpc_server, address = http.run(start())
        yield Servers(http, address)
        http.run(grpc_server.stop(0))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "images.npy"
    np.save(path, IMAGES)
    return path


def drive(variable: str, *arguments: object) -> Any:
    """What a driver prints."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    result = subprocess.run(
        [*shlex.split(os.environ[variable]), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S * 2,
        env=environment,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def assert_logits(seen: Any, expected: np.ndarray = LOGITS) -> None:
    np.testing.assert_array_equal(np.array(seen, np.float32), expected)


class TestTriton:
    """NVIDIA's HTTP clients, synchronous and asyncio."""

    @pytest.fixture(scope="module")
    @staticmethod
    def seen(servers: Servers, images: Path) -> Any:
        return drive("TRITON_HTTP_DRIVER", servers.http_address, "digits", images)

    @pytest.mark.parametrize("what", ["live", "ready", "model_ready", "version_ready"])
    def test_states(self, seen: Any, what: str) -> None:
        assert seen[what] is True
        assert seen["other_ready"] is False

    def test_every_form_gives_the_same_answers(self, seen: Any) -> None:
        assert len(seen["inferences"]) == 14
        for form, result in seen["inferences"].items():
            assert_logits(result["logits"])
            assert result["response"]["model_name"] == "digits", form

    def test_the_clients_default_is_binary_and_answered_so(self, seen: Any) -> None:
        (output,) = seen["inferences"]["default, input binary"]["response"]["outputs"]
        assert output == {
            "name": "logits",
            "datatype": "FP32",
            "shape": [3, 10],
            "parameters": {"binary_data_size": LOGITS.nbytes},
        }
        (output,) = seen["inferences"]["json, input binary"]["response"]["outputs"]
        assert "data" in output

    def test_ids_and_versions_come_back(self, seen: Any) -> None:
        response = seen["inferences"]["with everything, input binary"]["response"]
        assert (response["id"], response["model_version"]) == ("request-7", "1.2.3")

    def test_classification(self, seen: Any) -> None:
        for rows in seen["classes"]:
            for row, logits in zip(rows, LOGITS, strict=True):
                indices = [int(text.split(":")[1]) for text in row]
                assert indices == [9, 8, 7]
                values = [np.float32(text.split(":")[0]) for text in row]
                assert values == logits[[9, 8, 7]].tolist()
                assert [text.split(":")[2] for text in row] == ["nine", "eight", "seven"]

    def test_a_raw_body(self, seen: Any) -> None:
        assert_logits(seen["raw"], LOGITS[:1])

    def test_the_asyncio_client(self, seen: Any) -> None:
        assert seen["aio"]["ready"] is True
        assert seen["aio"]["metadata"] == seen["server_metadata"]
        for logits in seen["aio"]["logits"]:
            assert_logits(logits)

    def test_metadata_and_the_index(self, seen: Any) -> None:
        assert "binary_tensor_data" in seen["server_metadata"]["extensions"]
        assert seen["model_metadata"]["inputs"] == [
            {"name": "image", "datatype": "FP32", "shape": [-1, 8, 8, 1]}
        ]
        entry = {"name": "digits", "version": "1.2.3", "state": "READY", "reason": ""}
        assert seen["index"] == [entry]

    @pytest.mark.parametrize(
        ("case", "status", "message"),
        [
            ("load", "403", "--allow-model-control"),
            ("unload", "403", "--allow-model-control"),
            ("wrong_name", "400", "unexpected input 'picture'; expected inputs: image FP32"),
            ("nan", "400", "input 'image' has NaN or infinite values"),
            ("unknown_model", "404", "unknown model 'letters'; served here: 'digits'"),
            ("sequence", "400", "models here keep no state between requests"),
        ],
    )
    def test_refusals_reach_the_caller(
        self, seen: Any, case: str, status: str, message: str
    ) -> None:
        assert seen[case]["status"] == status
        assert message in seen[case]["message"]


class TestKServe:
    """KServe's clients, in their default way and in the others."""

    @pytest.fixture(scope="module")
    @staticmethod
    def seen(servers: Servers, images: Path) -> Any:
        return drive("KSERVE_DRIVER", servers.http_address, servers.grpc_address, "digits", images)

    @pytest.mark.parametrize("way", ["rest", "grpc"])
    @pytest.mark.parametrize("form", ["default", "binary", "json"])
    def test_every_form_gives_the_same_answers(self, seen: Any, way: str, form: str) -> None:
        result = seen[way][form]
        assert_logits(np.array(result["logits"]).reshape(LOGITS.shape))
        assert (result["id"], result["model"]) == ("request-7", "digits")

    @pytest.mark.parametrize("way", ["rest", "grpc"])
    def test_states(self, seen: Any, way: str) -> None:
        assert [seen[way][what] for what in ("live", "ready", "model_ready")] == [True] * 3

    def test_a_refusal_reaches_the_caller(self, seen: Any) -> None:
        assert "unknown model 'letters'; served here: 'digits'" in seen["rest"]["unknown_model"]


class TestCurl:
    """What documentation shows people."""

    @staticmethod
    def curl(servers: Servers, path: str, *options: str) -> Any:
        result = subprocess.run(
            ["curl", "-sS", "--noproxy", "*", *options, f"http://{servers.http_address}{path}"],
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    def test_pages(self, servers: Servers) -> None:
        assert self.curl(servers, "/v2/health/ready") == {"ready": True}
        assert self.curl(servers, "/v2/models/digits")["name"] == "digits"
        assert self.curl(servers, "/v2/repository/index", "-X", "POST")[0]["name"] == "digits"

    @pytest.mark.parametrize(
        "options", [(), ("-H", "content-type: application/json"), ("--compressed",), ("--http1.0",)]
    )
    def test_an_inference(self, servers: Servers, options: tuple[str, ...]) -> None:
        tensor = {"name": "image", "datatype": "FP32", "shape": [3, 8, 8, 1]}
        body = json.dumps({"inputs": [tensor | {"data": IMAGES.tolist()}]})
        answer = self.curl(servers, "/v2/models/digits/infer", "-d", body, *options)
        assert_logits(np.array(answer["outputs"][0]["data"]).reshape(3, 10))

    def test_a_body_for_which_curl_asks_first(self, servers: Servers, tmp_path: Path) -> None:
        """Of more than a megabyte, after `Expect: 100-continue`, which curl waits for."""
        batch = np.repeat(IMAGES[:1], 8, axis=0)
        tensor = {"name": "image", "datatype": "FP32", "shape": [8, 8, 8, 1]}
        file = tmp_path / "body.json"
        text = json.dumps({"inputs": [tensor | {"data": batch.tolist()}]}, indent=16)
        file.write_text(text + " " * 2**20)
        answer = self.curl(
            servers, "/v2/models/digits/infer", "-d", f"@{file}", "-H", "expect: 100-continue"
        )
        assert answer["outputs"][0]["shape"] == [8, 10]

    def test_predict(self, servers: Servers) -> None:
        body = json.dumps({"inputs": IMAGES[0].tolist()})
        answer = self.curl(servers, "/predict", "-d", body)
        assert answer["predictions"][0]["class"] == "nine"
        answer = self.curl(servers, "/predict", "-d", '{"inputs": [1, 2]}')
        assert "expected one example of the shape [8, 8, 1]" in answer["error"]
