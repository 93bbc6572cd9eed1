"""The gateway as a process, with a real Ray: answers, faults, and a clean end."""

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
import typer
from grpc_health.v1 import health_pb2, health_pb2_grpc
from inference import grpc_service_pb2 as oip
from inference import grpc_service_pb2_grpc as oip_grpc
from typer.testing import CliRunner, Result

from registry.artifact import LoadedArtifact, publish
from registry.example import example_artifact, example_tensors
from serving.client import InferenceError
from serving.environment import SETTINGS, isolate
from serving.example import example_images, publish_example
from serving.gateway import main
from serving.gateway_process import (
    START_S,
    Gateway,
    end_by_signal,
    processes_of,
    running,
    start,
    wait_until,
)
from serving.predictor import predictor

# The frameworks sum in different orders.
CROSS_FRAMEWORK_ATOL = 1e-4

IMAGE_SIZE = 64  # a batch of 64 such images is 1 MiB, which goes through shared memory


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedArtifact:
    return publish_example(tmp_path_factory.mktemp("registry") / "artifact", IMAGE_SIZE)


@pytest.fixture(scope="module")
def gateway(loaded: LoadedArtifact) -> Iterator[Gateway]:
    """One whose user has a Ray elsewhere, and proxies that do not answer.

    It computes in the other framework; that of triton_client_test.py does in the first, twice.
    """
    arguments = ["--artifact", loaded.directory, "--framework", "torch"]
    with running(*arguments, env=hostile_environment()) as gateway:
        yield gateway


def hostile_environment() -> dict[str, str]:
    proxy = "http://192.0.2.1:3128"  # reserved for documentation (RFC 5737)
    names = ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "grpc_proxy"]
    return dict.fromkeys(names, proxy) | {
        "no_proxy": "",
        "RAY_ADDRESS": "192.0.2.1:6379",
        "RAY_NAMESPACE": "another",
        "RAY_JOB_CONFIG_JSON_ENV_VAR": "no JSON",
        "RAY_RUNTIME_ENV": '{"working_dir": "/absent"}',
        "RAY_RUNTIME_ENV_HOOK": "absent.hook",
        "RAY_OVERRIDE_RESOURCES": '{"CPU": 0}',
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": "/absent",
        "RAY_USE_TLS": "1",
    }


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_answers_equal_the_model_in_the_framework_that_trained_it(
    gateway: Gateway, loaded: LoadedArtifact, batch: int
) -> None:
    images = example_images(batch, IMAGE_SIZE)
    with gateway.client() as client:
        assert client.model_metadata("digits").platform == "torch_safetensors"
        logits = client.infer("digits", {"image": images})["logits"]
    expected = predictor(loaded, "flax")(images)
    np.testing.assert_allclose(logits, expected, atol=CROSS_FRAMEWORK_ATOL, rtol=0)


def test_concurrent_callers_get_their_own_answers(gateway: Gateway, loaded: LoadedArtifact) -> None:
    images = example_images(48, IMAGE_SIZE)
    with gateway.client() as client, ThreadPoolExecutor(12) as callers:
        answers = callers.map(
            lambda image: client.infer("digits", {"image": image[np.newaxis]})["logits"][0], images
        )
        logits = np.stack(list(answers))
    expected = predictor(loaded)(images)
    assert len({row.tobytes() for row in expected.round(3)}) == len(images)
    np.testing.assert_allclose(logits, expected, atol=CROSS_FRAMEWORK_ATOL, rtol=0)


def test_burst_is_answered_or_refused(gateway: Gateway) -> None:
    images = example_images(1, IMAGE_SIZE)
    request = oip.ModelInferRequest(model_name="digits", raw_input_contents=[images.tobytes()])
    request.inputs.add(name="image", datatype="FP32", shape=images.shape)

    async def burst() -> set[grpc.StatusCode]:
        async with grpc.aio.insecure_channel(gateway.address) as channel:
            infer = oip_grpc.GRPCInferenceServiceStub(channel).ModelInfer
            calls = [infer(request, timeout=START_S) for _ in range(600)]
            return {await call.code() for call in calls}

    assert asyncio.run(burst()) <= {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
    with gateway.client() as client:  # and it is as well as before
        assert client.infer("digits", {"image": images})["logits"].shape == (1, 10)


def replicas_of(session: int) -> list[int]:
    processes = processes_of(session).items()
    return [pid for pid, command in processes if "ray::ServeReplica" in command]


def test_killed_replica_comes_back(gateway: Gateway) -> None:
    (replica,) = replicas_of(gateway.process.pid)
    os.kill(replica, signal.SIGKILL)

    image = example_images(1, IMAGE_SIZE)

    def answers() -> bool:
        try:
            return client.infer("digits", {"image": image})["logits"].size == 10
        except InferenceError as error:
            if error.code is not grpc.StatusCode.UNAVAILABLE:
                raise
            return False

    with gateway.client() as client:
        wait_until(answers, START_S)


@pytest.mark.parametrize("address", ["auto", "ray://192.0.2.1:10001", "nonsense"])
def test_ray_of_the_environment_is_named_and_not_joined(address: str) -> None:
    environ = {"RAY_ADDRESS": address, "http_proxy": "x", "HTTPS_PROXY": "y", "PATH": "/bin"}
    assert isolate(environ) == ["RAY_ADDRESS"]
    assert environ == {"PATH": "/bin"} | SETTINGS
    assert isolate(environ) == []


# The last to use the gateway that others share.
def test_ctrl_c_ends_it_whoever_watches(gateway: Gateway) -> None:
    with grpc.insecure_channel(gateway.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch
        statuses = watch(health_pb2.HealthCheckRequest())
        assert next(statuses).status == health_pb2.HealthCheckResponse.SERVING
        stdout = end_by_signal(gateway, signal.SIGINT)
        rest = [response.status for response in statuses]
    assert rest == [health_pb2.HealthCheckResponse.NOT_SERVING]
    assert stdout == ""  # though Ray said something of the replica that a test above killed


def test_hangup_while_a_replica_starts_leaves_nothing(loaded: LoadedArtifact) -> None:
    process = start("--artifact", loaded.directory, "--port", 0)
    wait_until(lambda: replicas_of(process.pid), START_S)
    for replica in replicas_of(process.pid):
        os.kill(replica, signal.SIGSTOP)  # it will never be ready
    os.killpg(process.pid, signal.SIGHUP)  # as a terminal that is closed
    _, stderr = process.communicate(timeout=START_S)
    assert (process.returncode, stderr) == (0, "")
    wait_until(lambda: not processes_of(process.pid))


def test_occupied_port_is_refused_before_ray_starts(loaded: LoadedArtifact) -> None:
    with socket.socket() as occupant:
        occupant.bind(("127.0.0.1", 0))
        occupant.listen()
        port = occupant.getsockname()[1]
        process = start("--artifact", loaded.directory, "--port", port)
        stdout, stderr = process.communicate(timeout=START_S)
    assert (process.returncode, stdout) == (2, "")
    assert stderr.startswith(f"error: cannot listen on 127.0.0.1:{port}: the port is in use")
    assert stderr.count("\n") == 1


def refuse(*arguments: object) -> str:
    """The one line with which the gateway refuses its arguments."""
    app = typer.Typer(add_completion=False)
    app.command()(main)
    result: Result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.mark.parametrize(
    ("artifact", "message"),
    [
        ("", "--artifact is ''; name a directory, or '.' for this one"),
        ("x" * 300, "x: File name too long"),
        ("artifact.pb", "artifact.pb: there is no such directory"),
    ],
)
def test_path_that_cannot_be_an_artifact_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, artifact: str, message: str
) -> None:
    monkeypatch.setenv("BUILD_WORKING_DIRECTORY", str(tmp_path))
    (tmp_path / "artifact.pb").touch()
    assert message in refuse("--artifact", artifact)


def test_missing_artifact_is_refused(tmp_path: Path) -> None:
    message = refuse("--artifact", tmp_path / "absent")
    assert message == f"error: no artifact at {tmp_path}/absent: there is no such directory\n"


def test_missing_and_truncated_weights_are_refused_at_once(tmp_path: Path) -> None:
    publish_example(tmp_path / "artifact")
    weights = tmp_path / "artifact" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    message = refuse("--artifact", tmp_path / "artifact")
    assert message.startswith(f"error: {weights} is corrupt: expected ")
    weights.unlink()
    assert "is incomplete: model.safetensors missing" in refuse("--artifact", tmp_path / "artifact")


def test_corrupt_weights_are_refused_by_the_replica_in_one_line(tmp_path: Path) -> None:
    publish_example(tmp_path / "artifact")
    weights = tmp_path / "artifact" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    process = start("--artifact", tmp_path / "artifact", "--port", 0)
    stdout, stderr = process.communicate(timeout=START_S)
    assert (process.returncode, stdout) == (2, "")
    assert stderr.startswith(f"error: {weights} is corrupt: expected SHA-256")
    assert stderr.count("\n") == 1
    wait_until(lambda: not processes_of(process.pid))


def test_network_that_is_not_known_here_is_refused(tmp_path: Path) -> None:
    artifact = example_artifact()
    artifact.model.architecture = "perceptron"
    publish(tmp_path / "artifact", artifact, example_tensors())
    message = refuse("--artifact", tmp_path / "artifact")
    assert message.startswith("error: model: architecture: ")
    assert message.endswith("got 'perceptron'\n")


def test_signature_that_cannot_be_served_is_refused(tmp_path: Path) -> None:
    loaded = publish_example(tmp_path / "one")
    two_inputs, text = example_artifact(), example_artifact()
    two_inputs.inputs.add(name="mask", datatype="BOOL", shape=[-1])
    text.inputs[0].datatype = "BYTES"
    publish(tmp_path / "two", two_inputs, loaded.tensors)
    publish(tmp_path / "text", text, loaded.tensors)
    assert "digits has 2 inputs and 1 outputs" in refuse("--artifact", tmp_path / "two")
    assert "datatype BYTES, which cannot be served" in refuse("--artifact", tmp_path / "text")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--host", "0.0.0.0", "host '0.0.0.0' can be reached from outside"),
        ("--host", "example.com", "or pass --insecure-bind if the network is trusted"),
        ("--host", "", "host '' can be reached"),
        ("--port", "-1", "--port: input should be greater than or equal to 0, got -1"),
        ("--replicas", "9" * 400, "--replicas: input should be less than or equal to 64, got 999"),
        ("--port", "65536", "--port: input should be less than or equal to 65535, got 65536"),
        ("--framework", "onnx", "--framework: input should be 'flax' or 'torch', got 'onnx'"),
        ("--replicas", "0", "--replicas: input should be greater than or equal to 1, got 0"),
        ("--max-batch-size", "0", "--max-batch-size: input should be greater than or equal to 1"),
        ("--max-batch-size", "65537", "input should be less than or equal to 65536, got 65537"),
        ("--max-message-bytes", "1023", "--max-message-bytes: input should be greater than or"),
        ("--max-message-bytes", str(2**31), "input should be less than or equal to 2147483647"),
        ("--timeout-s", "0", "--timeout-s: input should be greater than 0, got 0.0"),
        ("--timeout-s", "inf", "--timeout-s: input should be a finite number, got inf"),
        ("--drain-s", "-1", "--drain-s: input should be greater than or equal to 0, got -1.0"),
        ("--drain-s", "nan", "--drain-s: input should be a finite number, got nan"),
    ],
)
def test_bad_option_is_refused(tmp_path: Path, option: str, value: str, message: str) -> None:
    assert message in refuse("--artifact", tmp_path, option, value)


def test_host_that_is_not_ours_is_refused(loaded: LoadedArtifact) -> None:
    # 192.0.2.0/24 is reserved for documentation (RFC 5737).
    process = start("--artifact", loaded.directory, "--host", "192.0.2.1", "--insecure-bind")
    _, stderr = process.communicate(timeout=START_S)
    assert process.returncode == 2
    assert stderr.startswith("error: cannot listen on 192.0.2.1:8001")
