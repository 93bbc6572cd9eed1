"""What goes wrong with a Ray and what runs in it, and what a gateway makes of it."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from registry.artifact import LoadedArtifact
from serving.testing.example import publish_example
from serving.testing.placed_process import placed, wait_until

Record = Callable[[str, object], None]

# What callers are told.
DIED = "its replica died, and another one is being started"
FAILED = "its replicas do not start; the log says why"
REFUSED = "its artifact is refused; the log says why"


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> LoadedArtifact:
    return publish_example(tmp_path_factory.mktemp("registry") / "artifact")


def corrupt(weights: Path) -> None:
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)


def test_an_artifact_is_refused_at_once_also_later_and_served_again_when_it_is_back(
    artifact: LoadedArtifact, tmp_path: Path, record_property: Record
) -> None:
    directory = tmp_path / "artifact"
    shutil.copytree(artifact.directory, directory)
    weights = directory / "model.safetensors"
    corrupt(weights)
    with placed(directory, framework="torch") as process:
        refused = process.next("refused")
        assert refused["reason"].startswith(f"{weights} is corrupt: expected SHA-256")
        assert refused["notes"] == []

        corrupt(weights)  # back to what it was
        process.command("place")
        (pid,) = process.next("ready")["pids"].values()

        aside = tmp_path / "aside"
        weights.rename(aside)
        os.kill(pid, signal.SIGKILL)
        process.next("changed", lambda event: not event["pids"])
        while (reason := process.ask("look", "seen")["why_empty"]) != REFUSED:
            assert reason in (DIED, FAILED)
        assert f": artifact {directory} is incomplete: model.safetensors missing\n" in process.log()

        aside.rename(weights)
        process.next("changed", lambda event: len(event["pids"]) == 1)

        os.kill(process.process.pid, signal.SIGKILL)
        killed = wait_until(lambda: not process.left() and not process.home.exists())
        record_property("nothing_left_after_s", killed)


@pytest.mark.parametrize("name", ["head (gcs_server)", pytest.param("raylet", id="nightly_raylet")])
def test_a_ray_that_is_gone_is_known_at_once_and_the_rest_ends_in_order(
    artifact: LoadedArtifact, name: str
) -> None:
    with placed(artifact.directory, framework="torch") as process:
        process.next("ready")
        (up,) = (event for event in process.events if event["event"] == "up")
        pid = up["processes"][name]
        assert psutil.Process(pid).name() == name.removeprefix("head (").removesuffix(")")
        process.command("infer")  # so that it is told whether it still answers
        process.next("answer")
        os.kill(pid, signal.SIGKILL)
        lost = process.next("lost")
        assert lost["reason"] == f"Ray is gone: its {name}, process {pid}, has ended"
        process.command("look")
        process.next("down")
        assert process.process.wait(60) == 1
        wait_until(lambda: not process.left() and not process.home.exists())
