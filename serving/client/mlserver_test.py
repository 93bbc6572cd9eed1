"""Our clients against a server that is not ours: MLServer, in a process of its own.

It differs from what the protocol says in two things that it answers: an empty `contents` stands
beside raw bytes, and a stream has answers without the message that Triton puts around them.
"""

import os
import shlex
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from serving.client.encoding import encode_request
from serving.client.errors import InferenceError
from serving.client.results import InferResult
from serving.client.sync import InferenceClient
from serving.client.testing.both_clients import CLIENTS, Connect
from serving.client.testing.command_line import run

X = np.arange(8, dtype=np.float32).reshape(2, 4)
WORDS = np.array([[b"a"], ["\u00e9".encode()]], object)

START_S = "300"


def free_ports(count: int) -> list[str]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [str(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    driver = [os.path.abspath(part) for part in shlex.split(os.environ["MLSERVER_DRIVER"])]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    grpc_port, http_port = free_ports(2)
    directory = tmp_path_factory.mktemp("mlserver")  # which is its repository of models, too
    log = directory / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*driver, grpc_port, http_port],
            cwd=directory,
            env=environment,
            stdout=output,
            stderr=output,
        )
    try:
        address = f"127.0.0.1:{grpc_port}"
        ready = run("ready", "--model", "echo", "--address", address, "--wait", START_S)
        assert ready.exit_code == 0, log.read_text()
        yield address
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("connect", CLIENTS)
def test_arrays_come_back(connect: Connect, address: str) -> None:
    with connect(address) as client:
        result = client.infer("echo", {"x": X, "words": WORDS}, version="v1", request_id="7")
    np.testing.assert_array_equal(result["x"], X)
    assert result["words"].tolist() == WORDS.tolist()
    assert (result.model, result.version, result.id) == ("echo", "v1", "7")


@pytest.mark.parametrize("connect", CLIENTS)
def test_states_and_metadata(connect: Connect, address: str) -> None:
    with connect(address) as client:
        assert client.live() and client.ready() and client.ready("echo", "v1")
        assert client.server_metadata().name == "mlserver"
        assert [spec.name for spec in client.model_metadata("echo").inputs] == ["x", "words"]
        assert client.repository_index() == []  # its directory of models is empty
        with pytest.raises(InferenceError) as error:
            client.infer("other", {"x": X})
    assert error.value.code is grpc.StatusCode.NOT_FOUND


def test_a_stream(address: str) -> None:
    requests = [encode_request("echo", {"x": X + n}, request_id=str(n)) for n in range(3)]
    with InferenceClient(address) as client:
        results = list(client.stream(requests))
    for number, result in enumerate(results):
        assert isinstance(result, InferResult)
        # All have the id of the first: MLServer answers a stream as one request.
        np.testing.assert_array_equal(result["x"], X + number)
    assert len(results) == 3


def test_the_command_line(address: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=X, words=np.array([["a"], ["b"]]))
    result = run("infer", "--address", address, "--model", "echo", "--input", tmp_path / "x.npz")
    assert result.exit_code == 0, result.output
    assert "words BYTES [2, 1]" in result.stdout
    load = run(
        *("load", "--address", address, "--model", "echo", "--concurrency", "2"),
        *("--duration-s", "0.2", "--warm-up-s", "0"),
    )
    assert load.exit_code == 0, load.output
