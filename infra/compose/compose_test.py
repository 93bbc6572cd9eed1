"""All of compose.yaml, by podman-compose: trained, served, watched, and upgraded under load."""

import base64
import http.client
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from infra.compose.testing.callers import (
    ATOL,
    GRPC,
    HTTP,
    INFER,
    Asking,
    Call,
    Predict,
    ask_grpc,
    ask_http,
    images,
    post,
    tensor,
)
from infra.compose.upgrade import Site, gateways, serving
from infra.images.testing.podman import Podman, podman
from registry.artifact import load
from registry.store.store import open_store
from serving.client.sync import InferenceClient
from serving.predictor import predictor
from serving.testing.gateway_process import START_S, fetch, wait_until

COMPOSE = Path("infra/compose/compose.yaml")
IMAGES = ("balancer", "prometheus", "redis", "serving", "train")
GATEWAYS = 2
UID = 10001
NEXT = "hpc-serving:next"

PROMETHEUS = "127.0.0.1:9090"

# Answers before an upgrade, with which those during it are compared.
COMPARED = 500

SHORT = ("--set", "run.num_steps=120")


class Deployment(NamedTuple):
    """What compose has started.

    Attributes:
        engine: Runs its containers.
        site: As an upgrade knows it.
        predict: What the model that it serves answers.
    """

    engine: Podman
    site: Site
    predict: Predict


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    registry = tmp_path_factory.mktemp("registry")
    for directory in (registry, *list(registry.parents)[:2]):
        directory.chmod(0o755)
    os.chown(registry, UID, UID)
    # On a machine that is busy a gateway would rather compute than wait for Redis.
    variables = {"HPC_REGISTRY_DIR": str(registry), "HPC_REDIS_TIMEOUT_S": "5"}
    with podman() as engine, pytest.MonkeyPatch.context() as patch:
        for name in IMAGES:
            engine.load(Path("infra/images") / name, f"hpc-{name}")
        for name, value in variables.items():
            patch.setenv(name, value)
        program = str(engine.program())
        words = [sys.executable, "-m", "podman_compose", "--podman-path", program]
        words += ["--file", str(COMPOSE), "--project-name", "hpc"]
        site = Site(program, words, "hpc", "hpc-serving:latest", START_S)
        trainer = ("--profile", "train", "run", "--rm", "trainer")
        preset = ("flax", "--config=/presets/digits.yaml", "--output=/output/run")
        compose(site, *trainer, *preset, "--registry=/registry", *SHORT)
        compose(site, *trainer, "hpc", "promote", "digits:1", "--force", "--reason", "first")
        compose(site, "up", "--detach", "--scale", f"model-serving={GATEWAYS}")
        wait_until(lambda: serving(site, GATEWAYS), START_S)
        store = open_store(registry)
        champion = load(store.fetch(store.resolve("digits@champion").digest))
        yield Deployment(engine, site, predictor(champion))


def compose(site: Site, *arguments: str) -> str:
    command = [*site.compose, *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def measured(expression: str) -> dict[str, float]:
    """What Prometheus answers, by where it was scraped."""
    query = urllib.parse.urlencode({"query": expression})
    reply = json.loads(fetch(PROMETHEUS, f"/api/v1/query?{query}"))
    found = reply["data"]["result"]
    return {one["metric"].get("instance", ""): float(one["value"][1]) for one in found}


def test_every_protocol_answers_through_the_balancer(deployment: Deployment) -> None:
    image = images(1, seed=1)
    image[:, [0, -1]] = image[:, :, [0, -1]] = 0  # a photograph with a light edge is inverted
    expected = deployment.predict(image)
    with InferenceClient(GRPC, START_S) as client:
        logits = client.infer("digits", {"image": image})["logits"]
    np.testing.assert_allclose(logits, expected, atol=ATOL, rtol=0)
    picture = io.BytesIO()
    Image.fromarray(np.rint(image[0, ..., 0] * 255).astype(np.uint8)).save(picture, "PNG")
    encoded = base64.b64encode(picture.getvalue()).decode()
    with closing(http.client.HTTPConnection(HTTP, timeout=START_S)) as connection:
        reply = post(connection, INFER, tensor(image))
        np.testing.assert_allclose(reply["outputs"][0]["data"], expected[0], atol=ATOL, rtol=0)
        reply = post(connection, "/predict", {"image": encoded, "top_k": 10})
    said = reply["predictions"][0]
    found = [said["probabilities"][said["classes"].index(str(digit))] for digit in range(10)]
    probabilities = np.exp(expected[0]) / np.exp(expected[0]).sum()
    np.testing.assert_allclose(found, probabilities, atol=ATOL, rtol=0)


def test_calls_of_one_connection_are_shared_out_and_counted(deployment: Deployment) -> None:
    """And answers that one gateway has computed another one takes from Redis."""
    calls, times = images(50, seed=2), 4
    before = measured("sum by (instance) (gateway_requests_total{protocol='grpc',status='ok'})")
    with InferenceClient(GRPC, START_S) as client:
        for image in calls:
            for _ in range(times):
                client.infer("digits", {"image": image[None]})
    counted = {}

    def all_are_counted() -> bool:
        now = measured("sum by (instance) (gateway_requests_total{protocol='grpc',status='ok'})")
        counted.update({where: count - before.get(where, 0) for where, count in now.items()})
        return sum(counted.values()) >= times * len(calls)

    wait_until(all_are_counted)
    assert sum(counted.values()) in (times * len(calls), times * len(calls) + 1)
    assert len(counted) == GATEWAYS
    assert min(counted.values()) >= times * len(calls) / (2 * GATEWAYS)
    assert sum(measured("gateway_redis_hits_total").values()) > 0
    assert int(deployment.engine("exec", "hpc_redis_1", "redis-cli", "dbsize")) >= len(calls)


def test_prometheus_knows_all_that_there_is(deployment: Deployment) -> None:
    checked = deployment.engine(
        *("exec", "hpc_prometheus_1", "promtool", "check", "config"),
        "/etc/prometheus/prometheus.yml",
    )
    assert "SUCCESS" in checked
    wait_until(lambda: len(measured("up == 1")) == GATEWAYS + 2)
    # On a busy machine the balancer may have waited too long for an answer, once.
    up = "sum(haproxy_server_status{proxy='grpc',state='UP'})"
    wait_until(lambda: measured(up) == {"": GATEWAYS})
    ready = measured("gateway_model_ready{model='digits'}")
    assert list(ready.values()) == [1.0] * GATEWAYS


def test_without_a_gateway_that_is_ready_an_error_can_be_read(deployment: Deployment) -> None:
    """The gateways, told to end and started again, are away for some seconds."""
    names = [gateway.identity for gateway in gateways(deployment.site)]
    deployment.engine("stop", "--time", "0", *names)
    try:
        wait_until(lambda: status_of("/v2/health/ready")[0] == 503)
        status, body = status_of("/v2/health/ready")
        assert status == 503
        assert json.loads(body) == {"error": "no gateway is ready; try again"}
    finally:
        deployment.engine("start", *names)
        wait_until(lambda: serving(deployment.site, GATEWAYS), START_S)


def status_of(page: str) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection(HTTP, timeout=START_S)) as connection:
        connection.request("GET", page)
        reply = connection.getresponse()
        return reply.status, reply.read()


def test_no_container_has_rights(deployment: Deployment) -> None:
    """As the kernel sees their processes."""
    names = deployment.engine("ps", "--format", "{{.Names}}").split()
    assert len(names) == GATEWAYS + 3
    for name in names:
        shown = "{{.State.Pid}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.Memory}}"
        process, is_read_only, memory = deployment.engine("inspect", "-f", shown, name).split()
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines)
        assert set(status["Uid"].split()) == {str(UID)}
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
        assert status["NoNewPrivs"] == "1"
        assert is_read_only == "true"
        assert int(memory) > 0
        root = Path(f"/proc/{process}/mounts").read_text().splitlines()
        assert "ro" in next(line for line in root if " / " in line).split()[3].split(",")


def test_an_image_that_does_not_serve_takes_nobodys_place(deployment: Deployment) -> None:
    before = gateways(deployment.site)
    done = upgrade(deployment, "hpc-redis:latest", "--timeout-s", "3")
    assert done.returncode == 1
    assert done.stderr.startswith("error: a gateway of hpc-redis:latest was not ready after 3 s")
    assert "It said: " in done.stderr
    assert done.stderr.count("\n") == 1
    assert gateways(deployment.site) == before
    done = upgrade(deployment, "hpc-nobody:made")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert gateways(deployment.site) == before


def upgrade_command(deployment: Deployment, image: str) -> list[str]:
    site = deployment.site
    words = ["--engine", site.engine, "--compose", shlex.join(site.compose), "--image", image]
    return [sys.executable, "-m", "infra.compose.upgrade", *words]


def upgrade(deployment: Deployment, image: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*upgrade_command(deployment, image), *options],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def next_image(deployment: Deployment, tmp_path: Path) -> str:
    """The name of an image that serves as well."""
    (tmp_path / "Dockerfile").write_text("FROM hpc-serving:latest\nLABEL release=next\n")
    deployment.engine("build", "--pull-never", "--tag", NEXT, str(tmp_path))
    return NEXT


def test_an_upgrade_that_is_interrupted_leaves_as_many_as_there_were(
    deployment: Deployment, next_image: str
) -> None:
    before = gateways(deployment.site)
    with subprocess.Popen(
        upgrade_command(deployment, next_image), stderr=subprocess.PIPE, text=True
    ) as upgrading:
        wait_until(lambda: len(gateways(deployment.site)) > GATEWAYS)
        upgrading.send_signal(signal.SIGTERM)
        _, told = upgrading.communicate(timeout=START_S)
    assert upgrading.returncode == 128 + signal.SIGTERM
    assert told.endswith(
        f"interrupted: not all gateways are of {next_image}; the same command goes on\n"
    )
    assert gateways(deployment.site) == before


def test_an_upgrade_fails_no_request(
    deployment: Deployment,
    next_image: str,
    record_property: Callable[[str, object], None],
) -> None:
    old = gateways(deployment.site)
    done: list[Call] = []
    stop = Event()
    kinds = [ask_grpc, ask_grpc, ask_grpc, ask_http]
    with ThreadPoolExecutor(len(kinds)) as callers:
        for seed, kind in enumerate(kinds):
            callers.submit(kind, Asking(deployment.predict, seed, stop, done))
        wait_until(lambda: len(done) > COMPARED)
        began = time.monotonic()
        upgraded = upgrade(deployment, next_image)
        stop.set()
    assert upgraded.returncode == 0, upgraded.stderr
    new = gateways(deployment.site)
    assert [gateway.number for gateway in new] == [1, 2]
    assert len({gateway.image for gateway in (*old, *new)}) == 2
    assert {gateway.image for gateway in new}.isdisjoint(gateway.image for gateway in old)
    assert [call for call in done if call.fault] == []
    for name, calls in (
        ("before", [call for call in done if call.began < began]),
        ("during", [call for call in done if call.began >= began]),
    ):
        assert len(calls) > 100
        p50, p99 = np.percentile([call.took_s * 1e3 for call in calls], (50, 99))
        told = f"{len(calls)} answered, 0 failed, p50 {p50:.1f} ms, p99 {p99:.1f} ms"
        record_property(f"requests {name} the upgrade", told)
    record_property("the upgrade took, s", f"{max(call.began for call in done) - began:.0f}")
