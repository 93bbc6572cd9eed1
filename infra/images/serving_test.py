"""The serving image as it is to be run: without rights, read-only, by its published ports."""

import base64
import io
import json
import re
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import NamedTuple

import grpc
import numpy as np
import pytest
from PIL import Image

from infra.images.testing.podman import Podman, podman
from registry.artifact import LoadedArtifact
from registry.store.store import Store, open_store
from serving.client.errors import InferenceError
from serving.client.retries import RetryPolicy
from serving.client.sync import InferenceClient
from serving.predictor import predictor
from serving.testing.example import GREY_8X8, example_images, publish_example
from serving.testing.gateway_process import START_S, fetch, wait_until

LAYOUT = Path("infra/images/serving")
IMAGE = "hpc-serving"

# As a cluster that trusts nobody runs it.
CONFINED = (
    *("--read-only", "--read-only-tmpfs=false", "--tmpfs", "/tmp:rw,size=256m,mode=1777"),
    *("--cap-drop", "all", "--security-opt", "no-new-privileges"),
    *("--memory", "3g", "--pids-limit", "2000"),
)
PUBLISHED = [word for port in (8000, 8001, 8080) for word in ("--publish", f"127.0.0.1::{port}")]

# The frameworks sum in different orders.
ATOL = 1e-4


class Versions:
    """A registry with two versions of a model, and an alias."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "registry"
        self.store: Store = open_store(self.directory)
        self.loaded: dict[str, LoadedArtifact] = {}
        for seed, version in enumerate(("1.0.0", "1.1.0")):
            artifact = directory / version
            self.loaded[version] = publish_example(
                artifact, version=version, seed=seed, image_preprocessing=GREY_8X8
            )
            self.store.publish(artifact, by="test")
        self.point("1.0.0")

    def point(self, version: str) -> None:
        self.store.move_alias("digits", "best", version, by="test")


class Container(NamedTuple):
    """A gateway in a container; addresses are host:port."""

    name: str
    grpc: str
    http: str
    admin: str

    def client(self) -> InferenceClient:
        return InferenceClient(self.grpc, timeout_s=START_S)


@pytest.fixture(scope="module")
def engine() -> Iterator[Podman]:
    with podman() as engine:
        engine.load(LAYOUT, IMAGE)
        yield engine


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Versions:
    return Versions(tmp_path_factory.mktemp("versions"))


@pytest.fixture(scope="module")
def gateway(engine: Podman, versions: Versions) -> Container:
    """Of a registry that is mounted, and an alias that is followed."""
    mounted = ("--volume", f"{versions.directory}:/registry:ro")
    followed = ("--model", "digits@best", "--follow-aliases-s", 0.2)
    return started(engine, "gateway", *mounted, IMAGE, *followed)


def started(engine: Podman, name: str, *arguments: object) -> Container:
    """Runs a container until its gateway is ready."""
    engine("run", "--detach", "--name", name, *CONFINED, *PUBLISHED, *arguments)

    def ready() -> bool:
        assert engine("inspect", "--format", "{{.State.Status}}", name) == "running", logs()
        return "serving digits " in logs()

    def logs() -> str:
        done = engine.run("logs", name)
        return done.stdout + done.stderr

    wait_until(ready, START_S)
    return Container(name, *(engine.port(name, port) for port in (8001, 8000, 8080)))


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def post(address: str, path: str, content: object) -> dict:
    """What is answered to JSON by a page."""
    request = urllib.request.Request(
        f"http://{address}{path}",
        json.dumps(content).encode(),
        {"Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=START_S) as reply:
        return dict(json.load(reply))


def test_every_protocol_answers_as_the_model_does(gateway: Container, versions: Versions) -> None:
    levels = np.random.default_rng(3).integers(0, 256, (8, 8), np.uint8)
    image = (levels / 255).astype(np.float32).reshape(1, 8, 8, 1)
    expected = predictor(versions.loaded["1.0.0"])(image)
    with gateway.client() as client:
        result = client.infer("digits", {"image": image})
    assert result.version == "1.0.0"
    np.testing.assert_allclose(result["logits"], expected, atol=ATOL, rtol=0)
    tensor = {"name": "image", "shape": [1, 8, 8, 1], "datatype": "FP32", "data": image.tolist()}
    reply = post(gateway.http, "/v2/models/digits/infer", {"inputs": [tensor]})
    np.testing.assert_allclose(reply["outputs"][0]["data"], expected[0], atol=ATOL, rtol=0)
    picture = base64.b64encode(png(levels)).decode()
    (told,) = post(gateway.http, "/predict", {"image": picture, "top_k": 10})["predictions"]
    probabilities = np.sort(np.exp(expected[0]) / np.exp(expected[0]).sum())[::-1]
    np.testing.assert_allclose(told["probabilities"], probabilities, atol=ATOL, rtol=0)


def test_its_health_and_its_metrics_are_told(engine: Podman, gateway: Container) -> None:
    assert engine("healthcheck", "run", gateway.name) == ""
    assert "gateway_requests_total" in fetch(gateway.admin, "/metrics")
    assert json.loads(fetch(gateway.admin, "/readyz"))


def test_it_has_no_rights_and_can_change_nothing(engine: Podman, gateway: Container) -> None:
    code = """
import os
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
print(os.getuid(), os.getgid(), int(status["CapEff"], 16), status["NoNewPrivs"].strip())
for place in ("/", "/opt/app", "/home/app", "/registry", "/usr/bin"):
    try:
        open(place + "/probe", "w")
    except OSError as error:
        print(place, error.strerror)
"""
    said = engine("exec", gateway.name, "python3", "-c", code).splitlines()
    assert said[0] == "10001 10001 0 1"
    assert {line.partition(" ")[2] for line in said[1:]} == {"Read-only file system"}
    assert len(said) == 6


def test_it_trusts_whom_debian_trusts(engine: Podman, gateway: Container) -> None:
    code = "import certifi, os, ssl; print(os.path.realpath(certifi.where())); "
    code += "print(len(ssl.create_default_context(cafile=certifi.where()).get_ca_certs()))"
    place, count = engine("exec", gateway.name, "python3", "-c", code).split()
    assert place == "/etc/ssl/certs/ca-certificates.crt"
    assert int(count) > 100


def test_a_mounted_registry_is_followed_without_a_failed_request(
    gateway: Container, versions: Versions
) -> None:
    image = example_images(1)
    expected = {version: predictor(loaded)(image) for version, loaded in versions.loaded.items()}
    seen: list[str] = []
    versions.point("1.1.0")
    deadline = time.monotonic() + START_S
    with gateway.client() as client:
        while seen[-1:] != ["1.1.0"]:
            assert time.monotonic() < deadline
            result = client.infer("digits", {"image": image})
            np.testing.assert_allclose(
                result["logits"], expected[result.version], atol=ATOL, rtol=0
            )
            seen.append(result.version)
    assert sorted(seen) == seen


def test_told_to_stop_it_answers_what_it_has_taken(engine: Podman, versions: Versions) -> None:
    """An artifact is mounted at its place, with no argument at all."""
    artifact = versions.loaded["1.0.0"].directory
    # As a user whom nobody knows, which some clusters choose.
    gateway = started(engine, "short", "--user", "123456:0", "-v", f"{artifact}:/model:ro", IMAGE)
    image, stopping = example_images(1), Event()
    expected = predictor(versions.loaded["1.0.0"])(image)

    def ask_until_refused(_: int) -> tuple[int, InferenceError]:
        answered = 0
        with InferenceClient(gateway.grpc, START_S, retry=RetryPolicy(max_attempts=1)) as client:
            while True:
                try:
                    result = client.infer("digits", {"image": image})
                except InferenceError as error:
                    return answered, error
                np.testing.assert_allclose(result["logits"], expected, atol=ATOL, rtol=0)
                answered += stopping.is_set()

    with ThreadPoolExecutor(8) as callers:
        asking = callers.map(ask_until_refused, range(8))
        stopping.set()
        engine("stop", "--time", "100", gateway.name)
        ends = list(asking)
    assert {error.code for _, error in ends} == {grpc.StatusCode.UNAVAILABLE}
    assert all(answered for answered, _ in ends)  # it went on for a while
    assert engine("inspect", "--format", "{{.State.ExitCode}}", gateway.name) == "0"


@pytest.mark.parametrize(
    ("options", "arguments", "message"),
    [
        (
            (),
            (),
            r"error: there is no model to serve: mount an artifact \(-v DIRECTORY:/model:ro\)",
        ),
        (
            (),
            ("--model", "digits@best"),
            r"error: there is no store at /registry: it has no registry.json.*",
        ),
        (("--volume", "/proc:/model:ro"), (), r"error: no artifact at /model.*"),
    ],
)
def test_what_is_wrong_is_one_line_and_status_2(
    engine: Podman, options: tuple[str, ...], arguments: tuple[str, ...], message: str
) -> None:
    # Without systemd, podman says that it will not ask for health by itself.
    ended = engine.run("run", "--rm", "--no-healthcheck", *CONFINED, *options, IMAGE, *arguments)
    assert ended.returncode == 2
    assert re.match(message, ended.stderr), ended.stderr
    assert ended.stderr.count("\n") == 1
    assert ended.stdout == ""
