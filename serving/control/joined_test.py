"""Gateways that share a Ray of two machines, and leave in it nothing of theirs."""

import os
import signal
from collections.abc import Iterator

import psutil
import pytest

from registry.artifact import LoadedArtifact
from serving.control.options import RayConfig
from serving.testing.example import publish_example
from serving.testing.placed_process import PlacedProcess, placed, wait_until
from serving.testing.ray_nodes import RayNodes, ray_nodes

HERE, THERE = "127.0.0.2", "127.0.0.3"


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> LoadedArtifact:
    return publish_example(tmp_path_factory.mktemp("registry") / "artifact")


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayNodes]:
    """Two machines with room for two replicas each."""
    with ray_nodes() as nodes:
        nodes.start(HERE, num_cpus=2, is_head=True)
        nodes.start(THERE, num_cpus=2)
        yield nodes


def joined(cluster: RayNodes, **config: object) -> tuple[RayConfig, dict[str, str]]:
    """What a program is told to join a cluster, in an environment that shows its token."""
    sections = RayConfig.model_validate({"ray_address": cluster.address, **config})
    return sections, {"RAY_AUTH_TOKEN": cluster.token}


def alive(pids: dict[str, int]) -> list[int]:
    return [pid for pid in pids.values() if psutil.pid_exists(pid)]


def listening(pid: int) -> set[str]:
    connections = psutil.Process(pid).net_connections()
    return {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN}


def ready(process: PlacedProcess, replicas: int) -> dict[str, int]:
    seen = process.next("ready")
    assert len(seen["pids"]) == replicas
    assert all(process.ask("infer", "answer")["answers"].values())
    pids: dict[str, int] = seen["pids"]
    return pids


def test_the_other_machine_is_reached_at_its_address_and_this_one_by_a_socket(
    cluster: RayNodes, artifact: LoadedArtifact
) -> None:
    with placed(artifact.directory, *joined(cluster), framework="torch", replicas=3) as process:
        ready(process, 3)
        seen = process.ask("look", "seen")
        far = [address for address in seen["addresses"] if address.startswith(f"tcp:{THERE}:")]
        near = [address for address in seen["addresses"] if address.startswith("unix:")]
        assert far
        assert near
        assert len(far) + len(near) == 3
        ports = {int(address.rpartition(":")[2]) for address in far}
        listening_at = [
            connection.laddr
            for pid in alive(seen["pids"])
            for connection in psutil.Process(pid).net_connections()
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port in ports
        ]
        assert {address.ip for address in listening_at} == {THERE}
        assert process.end() == 0
        wait_until(lambda: not alive(seen["pids"]))


def test_tcp_can_be_asked_for(cluster: RayNodes, artifact: LoadedArtifact) -> None:
    config, env = joined(cluster, replica_tcp=True, cpus_per_replica=1.5)
    with placed(artifact.directory, config, env, framework="torch", replicas=2) as process:
        # One on each machine, as no machine has room for two; there is still the nearer way here.
        ready(process, 2)
        kinds = sorted(address.partition(":")[0] for address in process.events[-2]["addresses"])
        assert kinds == ["tcp", "unix"]
        for pid in process.events[-2]["pids"].values():
            assert listening(pid) & {HERE, THERE}


def test_two_gateways_share_it_and_one_that_is_killed_takes_only_its_own_along(
    cluster: RayNodes, artifact: LoadedArtifact
) -> None:
    config, env = joined(cluster)
    with (
        placed(artifact.directory, config, env, framework="torch") as killed,
        placed(artifact.directory, config, env, framework="torch") as other,
    ):
        theirs, ours = ready(killed, 1), ready(other, 1)
        killed.process.kill()
        wait_until(lambda: not alive(theirs) and not killed.home.exists())
        assert alive(ours) == list(ours.values())
        assert other.ask("infer", "answer")["answers"].keys() == ours.keys()
        # What is left is really the other's own: it ends with it.
        assert other.end() == 0
        wait_until(lambda: not alive(ours))
    assert cluster.processes("raylet/raylet")


def test_a_wrong_token_is_refused(cluster: RayNodes, artifact: LoadedArtifact) -> None:
    config, _ = joined(cluster)
    with placed(artifact.directory, config, {"RAY_AUTH_TOKEN": "0" * 64}) as process:
        said = process.next("failed")["reason"]
    assert said.startswith(f"cannot join the Ray at {cluster.address}; is this machine part of it")
    assert "RAY_AUTH_TOKEN" in said


# The last to use what others share.
def test_a_machine_that_is_gone_and_then_the_head(
    cluster: RayNodes, artifact: LoadedArtifact
) -> None:
    with placed(artifact.directory, *joined(cluster), framework="torch", replicas=3) as process:
        ready(process, 3)
        seen = process.ask("look", "seen")
        near = {
            name
            for name, address in zip(seen["pids"], seen["addresses"], strict=True)
            if address.startswith("unix:")
        }
        here, there = (cluster.processes(f"--node_ip_address={host}") for host in (HERE, THERE))
        assert (len(here), len(there)) == (1, 1)
        os.kill(there[0], signal.SIGKILL)
        process.next("changed", lambda event: set(event["pids"]) == near)
        assert set(process.ask("infer", "answer")["answers"]) == near
        (head,) = cluster.processes("gcs/gcs_server ")
        os.kill(head, signal.SIGKILL)
        lost = process.next("lost")["reason"]
        assert lost.startswith(
            f"Ray is gone: its head (gcs_server) does not answer at {cluster.address} ("
        )
        process.command("look")
        process.next("down")
        assert process.process.wait(120) == 1
        wait_until(lambda: not process.home.exists())
