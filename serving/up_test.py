"""The gateway as a process, with a real Ray: answers, changes of models, and a clean end."""

import asyncio
import json
import os
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from inference import grpc_service_pb2 as oip
from inference import grpc_service_pb2_grpc as oip_grpc

from registry.artifact import LoadedArtifact
from registry.store.store import Store, open_store
from serving.client.errors import InferenceError
from serving.client.retries import RetryPolicy
from serving.client.sync import InferenceClient
from serving.predictor import predictor
from serving.testing.example import example_images, publish_example
from serving.testing.gateway_process import (
    START_S,
    STOP_S,
    Gateway,
    end_by_signal,
    fetch,
    homes_of,
    processes_of,
    replicas_of,
    running,
    start,
    wait_until,
)

# The frameworks sum in different orders.
CROSS_FRAMEWORK_ATOL = 1e-4

IMAGE_SIZE = 64  # a batch of 64 such images is 1 MiB, which goes through shared memory

WIDE = ("{reference: digits@wide, name: wide, framework: torch}",)


class Published:
    """A registry with two sizes of a model, of which the small one has two versions."""

    def __init__(self, directory: Path) -> None:
        self.store: Store = open_store(directory / "registry")
        self.by_version: dict[str, LoadedArtifact] = {}
        sizes = {"1.0.0": 8, "1.1.0": 8, "2.0.0": IMAGE_SIZE}
        for seed, (version, image_size) in enumerate(sizes.items()):
            loaded = publish_example(directory / version, image_size, version=version, seed=seed)
            self.by_version[version] = loaded
            self.store.publish(directory / version, by="test")
        self.point("small", "1.0.0")
        self.point("wide", "2.0.0")

    def point(self, alias: str, version: str) -> None:
        self.store.move_alias("digits", alias, version, by="test")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return Published(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def gateway(published: Published, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One of two models, whose user has a Ray elsewhere, and proxies that do not answer."""
    arguments = ["--registry", published.store.url, "--model", "digits@small", "--model", *WIDE]
    log = tmp_path_factory.mktemp("log") / "gateway.log"
    with running(
        *arguments, "--follow-aliases-s", 0.2, log=log, env=hostile_environment()
    ) as gateway:
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
    gateway: Gateway, published: Published, batch: int
) -> None:
    images = example_images(batch, IMAGE_SIZE)
    with gateway.client() as client:
        assert client.model_metadata("wide").platform == "torch_safetensors"
        logits = client.infer("wide", {"image": images})["logits"]
    expected = predictor(published.by_version["2.0.0"], "flax")(images)
    np.testing.assert_allclose(logits, expected, atol=CROSS_FRAMEWORK_ATOL, rtol=0)


def test_concurrent_callers_get_their_own_answers(gateway: Gateway, published: Published) -> None:
    images = example_images(48, IMAGE_SIZE)
    with gateway.client() as client, ThreadPoolExecutor(12) as callers:
        answers = callers.map(
            lambda image: client.infer("wide", {"image": image[np.newaxis]})["logits"][0], images
        )
        logits = np.stack(list(answers))
    expected = predictor(published.by_version["2.0.0"])(images)
    assert len({row.tobytes() for row in expected.round(3)}) == len(images)
    np.testing.assert_allclose(logits, expected, atol=CROSS_FRAMEWORK_ATOL, rtol=0)


def test_every_way_in_gives_the_same_answer(gateway: Gateway, published: Published) -> None:
    image = example_images(1)
    (expected,) = predictor(published.by_version["1.0.0"])(image)
    body = json.dumps({"inputs": image.tolist(), "model": "digits"}).encode()
    request = urllib.request.Request(
        f"http://{gateway.http}/predict", body, {"Content-Type": "application/json"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=START_S) as reply:
        predicted = json.load(reply)
    assert (predicted["model"], predicted["version"]) == ("digits", "1.0.0")
    with gateway.client() as client:
        logits = client.infer("digits", {"image": image})["logits"]
    np.testing.assert_allclose(logits[0], expected, atol=CROSS_FRAMEWORK_ATOL, rtol=0)


def events_of(log: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in log.read_text().splitlines() if line[:1] == "{"]


def test_those_who_run_it_see_what_it_does(gateway: Gateway) -> None:
    with gateway.client() as client:
        client.infer("digits", {"image": example_images(1)})
    page = fetch(gateway.admin, "/metrics")
    assert 'gateway_requests_total{model="digits"' in page
    assert json.loads(fetch(gateway.admin, "/readyz"))
    events = [line["event"] for line in events_of(gateway.log)]
    assert {"model_ready", "started"} <= set(events)
    assert events.index("started") < events.index("listening")


def test_an_alias_that_moves_is_followed_without_a_failed_request(
    gateway: Gateway, published: Published
) -> None:
    image = example_images(1)
    expected = {v: predictor(published.by_version[v])(image) for v in ("1.0.0", "1.1.0")}
    assert np.abs(expected["1.0.0"] - expected["1.1.0"]).max() > 0.1
    seen: list[str] = []
    published.point("small", "1.1.0")
    deadline = time.monotonic() + START_S
    with gateway.client() as client:
        while seen[-1:] != ["1.1.0"]:
            assert time.monotonic() < deadline
            result = client.infer("digits", {"image": image})
            np.testing.assert_allclose(
                result["logits"], expected[result.version], atol=CROSS_FRAMEWORK_ATOL, rtol=0
            )
            seen.append(result.version)
    assert sorted(seen) == seen
    wait_until(lambda: '"model_unloaded"' in gateway.log.read_text())


def test_burst_is_answered_or_refused(gateway: Gateway) -> None:
    images = example_images(1, IMAGE_SIZE)
    request = oip.ModelInferRequest(model_name="wide", raw_input_contents=[images.tobytes()])
    request.inputs.add(name="image", datatype="FP32", shape=images.shape)

    async def burst() -> set[grpc.StatusCode]:
        options = [("grpc.enable_http_proxy", 0)]
        async with grpc.aio.insecure_channel(gateway.grpc, options) as channel:
            infer = oip_grpc.GRPCInferenceServiceStub(channel).ModelInfer
            calls = [infer(request, timeout=START_S) for _ in range(600)]
            return {await call.code() for call in calls}

    assert asyncio.run(burst()) <= {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
    with gateway.client() as client:  # and it is as well as before
        assert client.infer("wide", {"image": images})["logits"].shape == (1, 10)


def test_without_replicas_it_is_not_ready_and_says_why_until_they_are_back(
    gateway: Gateway,
) -> None:
    for replica in replicas_of(gateway.process.pid):
        os.kill(replica, signal.SIGKILL)
    image = example_images(1)
    refused: list[InferenceError] = []

    def answers() -> bool:
        try:
            return client.infer("digits", {"image": image})["logits"].size == 10
        except InferenceError as error:
            refused.append(error)
            return False

    # One that tries again by itself could be answered once they are back.
    with InferenceClient(gateway.grpc, START_S, retry=RetryPolicy(max_attempts=1)) as client:
        wait_until(lambda: not client.ready("digits"))
        wait_until(answers, START_S)
        wait_until(client.ready, START_S)
    assert {error.code for error in refused} <= {grpc.StatusCode.UNAVAILABLE}
    assert "replica" in str(refused[0])


# The last to use the gateway that others share.
def test_ctrl_c_ends_it_whoever_watches(gateway: Gateway) -> None:
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(gateway.grpc, options) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch
        statuses = watch(health_pb2.HealthCheckRequest())
        assert next(statuses).status == health_pb2.HealthCheckResponse.SERVING
        stdout = end_by_signal(gateway, signal.SIGINT)
        rest = [response.status for response in statuses]
    assert rest == [health_pb2.HealthCheckResponse.NOT_SERVING]
    assert stdout == ""  # though Ray said something of the replicas that a test above killed


def small(published: Published) -> list[object]:
    return ["--registry", published.store.url, "--model", "digits:1.0"]


def test_until_it_is_ready_nobody_connects_and_a_hangup_leaves_nothing(
    published: Published, tmp_path: Path
) -> None:
    ports = ["--grpc-port", 0, "--http-port", 0, "--admin-port", 0]
    process = start(*small(published), *ports, log=tmp_path / "log")
    wait_until(lambda: replicas_of(process.pid), START_S)
    for replica in replicas_of(process.pid):
        os.kill(replica, signal.SIGSTOP)  # it will hardly be ready, and not answer any more
    held = next(event for event in events_of(tmp_path / "log") if event["event"] == "holding")
    for protocol in ("grpc", "http"):
        host, _, port = held[protocol].rpartition(":")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)))
    with pytest.raises(urllib.error.HTTPError, match="503"):
        fetch(held["admin"], "/readyz")
    os.killpg(process.pid, signal.SIGHUP)  # as a terminal that is closed
    process.communicate(timeout=START_S)
    assert process.returncode == 0
    wait_until(lambda: not processes_of(process.pid))


def test_killed_it_leaves_nothing_and_another_takes_its_ports(
    published: Published, tmp_path: Path
) -> None:
    with running(*small(published), log=tmp_path / "first") as gateway:
        session = gateway.process.pid
        homes = homes_of(session)
        os.kill(session, signal.SIGKILL)
        gateway.process.wait(STOP_S)
        ports = [address.rpartition(":")[2] for address in gateway[2:5]]
        flags = zip(("--grpc-port", "--http-port", "--admin-port"), ports, strict=True)
        options = [word for pair in flags for word in pair]
        with running(*small(published), *options, log=tmp_path / "second") as second:
            assert second.grpc == gateway.grpc
            with second.client() as client:
                assert client.ready("digits")
        wait_until(lambda: not processes_of(session))
    assert homes
    assert not any(home.exists() for home in homes)


@pytest.mark.parametrize("occupied", ["grpc", "http", "admin"])
def test_occupied_port_is_refused_before_ray_starts(published: Published, occupied: str) -> None:
    with socket.socket() as occupant:
        occupant.bind(("127.0.0.1", 0))
        occupant.listen()
        port = occupant.getsockname()[1]
        ports = dict.fromkeys(["grpc", "http", "admin"], 0) | {occupied: port}
        options = [f"--{name}-port={number}" for name, number in ports.items()]
        process = start(*small(published), *options)
        stdout, stderr = process.communicate(timeout=START_S)
    assert (process.returncode, stdout) == (2, "")
    assert f"error: cannot listen on 127.0.0.1:{port}: the port is in use" in stderr
    assert "starting_ray" not in stderr


def test_corrupt_weights_are_refused_by_the_replica_in_one_line(tmp_path: Path) -> None:
    publish_example(tmp_path / "artifact")
    weights = tmp_path / "artifact" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    ports = ["--grpc-port", 0, "--http-port", 0, "--admin-port", 0]
    process = start("--model", tmp_path / "artifact", *ports)
    stdout, stderr = process.communicate(timeout=START_S)
    assert (process.returncode, stdout) == (2, "")
    assert f"error: {weights} is corrupt: expected SHA-256" in stderr.splitlines()[-1]
    wait_until(lambda: not processes_of(process.pid))
