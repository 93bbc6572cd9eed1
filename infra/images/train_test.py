"""The training image: it trains to a volume, is killed and goes on, and tells what it cannot do."""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.images.testing.podman import Podman, podman
from infra.images.train_main import is_lost
from registry.artifact import LoadedArtifact, load

LAYOUT = Path("infra/images/train")
IMAGE = "hpc-train"
UID = 10001

CONFINED = (
    *("--read-only", "--read-only-tmpfs=false", "--tmpfs", "/tmp:rw,size=256m,mode=1777"),
    *("--cap-drop", "all", "--security-opt", "no-new-privileges", "--network", "none"),
    *("--memory", "4g"),
)
SHORT = (
    *("--config", "/presets/digits.yaml", "--set", "run.num_steps=40"),
    *("--set", "schedule.warmup_steps=10"),
    *("--set", "run.log_every_steps=1", "--set", "checkpoint.every_steps=3"),
)
# Far more than a run takes, on a busy machine too.
RUN_S = 300.0


@pytest.fixture(scope="module")
def engine() -> Iterator[Podman]:
    with podman() as engine:
        engine.load(LAYOUT, IMAGE)
        yield engine


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A directory that the image's user may write to."""
    directory = tmp_path / "output"
    directory.mkdir()
    os.chown(directory, UID, UID)
    return directory


def arguments(output: Path, *words: object) -> tuple[object, ...]:
    return (*CONFINED, "--volume", f"{output}:/output", IMAGE, *words)


def weights(artifact: LoadedArtifact) -> dict[str, bytes]:
    return {name: tensor.tobytes() for name, tensor in artifact.tensors.items()}


@pytest.mark.parametrize("framework", ["flax", "torch"])
def test_killed_it_goes_on_to_the_same_bits(engine: Podman, output: Path, framework: str) -> None:
    engine("run", "--rm", *arguments(output, framework, *SHORT, "--output", "/output/undisturbed"))
    command = arguments(output, framework, *SHORT, "--output", "/output/killed")
    name = f"killed-{framework}"
    engine("run", "--detach", "--name", name, *command)
    deadline = time.monotonic() + RUN_S
    while not re.search("step +12/40", engine("logs", name)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    engine("kill", "--signal", "KILL", name)
    assert engine("wait", name) == "137"
    assert not (output / "killed" / "artifact").exists()
    said = engine("run", "--rm", *command)
    assert not re.search("step +1/40", said)
    assert re.search("step +40/40", said)
    undisturbed, killed = (load(output / run / "artifact") for run in ("undisturbed", "killed"))
    assert weights(killed) == weights(undisturbed)
    owner = (output / "killed" / "artifact").stat()
    assert (owner.st_uid, owner.st_gid) == (UID, UID)


def test_a_registry_that_is_mounted_takes_what_was_trained(engine: Podman, output: Path) -> None:
    registry = output / "registry"
    registry.mkdir()
    os.chown(registry, UID, UID)
    mounted = ("--volume", f"{registry}:/registry")
    run = (*mounted, *arguments(output, "flax", *SHORT))
    engine("run", "--rm", *run, "--output", "/output/run", "--registry", "/registry")
    listed = engine("run", "--rm", *mounted, *CONFINED, IMAGE, "hpc", "list")
    assert "digits" in listed


def test_a_volume_that_cannot_be_written_is_told(engine: Podman, tmp_path: Path) -> None:
    """It belongs to root, and the image's user is somebody else."""
    tmp_path.chmod(0o755)
    command = arguments(tmp_path, "torch", *SHORT, "--output", "/output/run")
    ended = engine.run("run", "--rm", *command)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: cannot train in /output/run: Permission denied; ")
    assert ended.stderr.count("\n") == 1


def test_what_would_end_with_the_container_is_not_begun(engine: Podman) -> None:
    ended = engine.run("run", "--rm", IMAGE, "flax", *SHORT, "--output", "/output/run")
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: nothing is mounted at /output, and what is written")
    assert ended.stderr.count("\n") == 1


def test_no_place_for_temporary_files_is_told(engine: Podman, output: Path) -> None:
    confined = ("--read-only", "--read-only-tmpfs=false", "--volume", f"{output}:/output")
    ended = engine.run("run", "--rm", *confined, IMAGE, "torch", *SHORT, "--output", "/output/run")
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: a trainer writes temporary files, and may do so nowhere")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [(), ("jax",)])
def test_what_it_can_do_is_told(engine: Podman, words: tuple[str, ...]) -> None:
    ended = engine.run("run", "--rm", *CONFINED, IMAGE, *words)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: expected flax, torch, hpc and its arguments, such as")
    assert ended.stderr.count("\n") == 1


def test_it_helps(engine: Podman) -> None:
    told = engine("run", "--rm", *CONFINED, IMAGE, "--help")
    assert told.startswith("expected flax, torch, hpc and its arguments, such as")


@pytest.mark.parametrize(
    ("arguments", "mounts", "lost"),
    [
        (["--output", "/output/run"], ["/output"], False),
        (["--output", "/output/run"], ["/output/run"], False),
        (["--output", "/output/run"], ["/data"], True),
        (["--output=/output"], [], True),
        (["--output", "output/run"], [], True),
        (["--output", "/data/../output/run"], ["/data"], True),
        (["--output", "/data/run"], [], False),
        (["--output", "/output/run", "--output", "/data/run"], [], False),
        (["--config", "/presets/digits.yaml"], [], False),
        (["--output"], [], False),
    ],
)
def test_what_is_below_no_mount_is_lost(
    arguments: list[str], mounts: list[str], lost: bool
) -> None:
    assert is_lost(arguments, lambda place: str(place) in mounts) == lost
