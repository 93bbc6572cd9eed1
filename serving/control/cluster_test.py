"""A private Ray with a model in it: started, found, replaced, ended without a trace."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from registry.artifact import LoadedArtifact
from serving.control.options import RayConfig
from serving.core.signature import TensorSpec, zeros
from serving.predictor import predictor
from serving.testing.example import publish_example
from serving.testing.placed_process import PlacedProcess, placed, wait_until

Record = Callable[[str, object], None]

ATOL = 1e-4  # the frameworks sum in different orders

THREADS = 3


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> LoadedArtifact:
    return publish_example(tmp_path_factory.mktemp("registry") / "artifact")


@pytest.fixture(scope="module")
def running(artifact: LoadedArtifact) -> Iterator[PlacedProcess]:
    """Two replicas, of a program whose user has a Ray elsewhere."""
    with placed(
        artifact.directory,
        RayConfig(threads_per_replica=THREADS),
        env={"RAY_ADDRESS": "192.0.2.1:6379", "RAY_AUTH_TOKEN_PATH": "/absent"},
        replicas=2,
        framework="flax",
    ) as process:
        process.next("ready")
        yield process


def test_replicas_are_reached_by_sockets_that_only_this_user_reaches(
    running: PlacedProcess, artifact: LoadedArtifact, record_property: Record
) -> None:
    for event in running.events:
        record_property(f"{event['event']}_at_s", event["at_s"])
    seen = running.ask("look", "seen")
    assert len(set(seen["pids"].values())) == 2
    for address in seen["addresses"]:
        assert address.startswith(f"unix:{running.home}/")
    assert running.home.stat().st_mode & 0o777 == 0o700
    answers = running.ask("infer", "answer")["answers"]
    assert sorted(answers) == sorted(seen["pids"])
    images = zeros(TensorSpec("image", "FP32", (-1, 8, 8, 1)))
    for answer in answers.values():
        np.testing.assert_allclose(
            answer["logits"], predictor(artifact, "torch")(images), atol=ATOL, rtol=0
        )


def test_all_of_its_ray_is_marked_and_listens_on_loopback_only(running: PlacedProcess) -> None:
    gateway = psutil.Process(running.process.pid)
    (watchdog,) = (child for child in gateway.children() if "reaper.py" in str(child.cmdline()))
    rays = [child for child in gateway.children(recursive=True) if child != watchdog]
    assert {child.pid for child in rays} == set(running.left())
    listening = [
        (process.cmdline(), connection.laddr)
        for process in [gateway, *rays]
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening  # Ray's own
    for command, address in listening:
        assert address.ip.removeprefix("::ffff:") == "127.0.0.1", command


def test_each_replica_has_the_threads_that_were_asked_for(running: PlacedProcess) -> None:
    for pid in running.ask("look", "seen")["pids"].values():
        names = [(task / "comm").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
        # XLA's pool for what it computes on the CPU; there are more threads, which wait.
        assert names.count("tf_XLAEigen\n") == THREADS


def test_signals_to_the_whole_group_end_no_replica(running: PlacedProcess) -> None:
    pids = running.ask("look", "seen")["pids"]
    for pid in running.left():
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGHUP)
    assert len(running.ask("infer", "answer")["answers"]) == 2
    assert running.ask("look", "seen")["pids"] == pids


def test_a_replica_that_is_killed_is_out_at_once_and_replaced(
    running: PlacedProcess, record_property: Record
) -> None:
    name, pid = next(iter(running.ask("look", "seen")["pids"].items()))
    os.kill(pid, signal.SIGKILL)
    without = running.next("changed", lambda event: name not in event["pids"])
    assert len(without["pids"]) == 1
    replaced = running.next("changed", lambda event: len(event["pids"]) == 2)
    record_property("replaced_after_s", replaced["at_s"] - without["at_s"])
    assert name not in replaced["pids"]
    assert len(running.ask("infer", "answer")["answers"]) == 2


def test_all_replicas_that_are_killed_come_back(running: PlacedProcess) -> None:
    before = running.ask("look", "seen")["pids"]
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    empty = running.next("changed", lambda event: not event["pids"])
    assert empty["why_empty"] == "its replica died, and another one is being started"
    after = running.next("changed", lambda event: len(event["pids"]) == 2)
    assert not set(before) & set(after["pids"])


def test_the_same_version_is_placed_again_and_removed(running: PlacedProcess) -> None:
    before = running.ask("look", "seen")["pids"]
    running.ask("remove", "removed")
    wait_until(lambda: not any(map(psutil.pid_exists, before.values())))
    after = running.ask("place", "ready")["pids"]
    assert len(after) == 2
    assert not set(before) & set(after)


# The last to use what others share.
def test_it_ends_without_a_trace(running: PlacedProcess, record_property: Record) -> None:
    children = psutil.Process(running.process.pid).children(recursive=True)
    assert running.end() == 0
    running.next("down")
    assert running.left() == []
    assert not running.home.exists()
    psutil.wait_procs(children, timeout=60)
    assert not [child for child in children if child.is_running()]
