"""A run that a launcher of torch's or DeepSpeed's starts is the run that `--nproc` starts."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from registry.artifact import load
from train.checkpoint.store import CheckpointStore
from train.testing.trainer_programs import config_file, run

_TORCHRUN = ("train.main_torchrun", "--standalone", "--nproc-per-node", "2", "-m")


def _deepspeed(directory: Path) -> tuple[str, ...]:
    """Returns how DeepSpeed's launcher starts the ranks of this machine, without ssh."""
    hosts = directory / "hosts"
    hosts.write_text("localhost slots=2\n")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    alone = ("--no_ssh", "--node_rank", "0", "--master_addr", "127.0.0.1")
    alone += ("--master_port", str(port))
    return ("train.main_deepspeed", "--hostfile", str(hosts), *alone, "--module")


def _start(launcher: Sequence[str], *arguments: object, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", *launcher, "train.main_torch", *map(str, arguments)]
    environment = os.environ | {"BUILD_WORKING_DIRECTORY": str(cwd), "DS_ACCELERATOR": "cpu"}
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


def _weights(directory: Path) -> dict[str, bytes]:
    return {name: tensor.tobytes() for name, tensor in load(directory / "artifact").tensors.items()}


@pytest.mark.parametrize("name", ["torchrun", "deepspeed"])
def test_its_run_is_that_of_nproc(name: str, tmp_path: Path) -> None:
    config = config_file(tmp_path, num_steps=4)
    launcher = _TORCHRUN if name == "torchrun" else _deepspeed(tmp_path)
    arguments = ("--config", config, "--set", "zero.stage=2", "--output")
    with _start(launcher, *arguments, "launched", cwd=tmp_path) as process:
        stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr
    # Once, however many ranks there are.
    assert stdout.count("step 4/4") == stdout.count("published ") == 1
    assert run("torch", *arguments, "own", "--nproc", 2, cwd=tmp_path)[0] == 0
    assert _weights(tmp_path / "launched") == _weights(tmp_path / "own")


def test_bad_input_is_told(tmp_path: Path) -> None:
    config = config_file(tmp_path, num_steps=4)
    with _start(_TORCHRUN, "--config", config, cwd=tmp_path) as process:
        _, stderr = process.communicate()
    assert process.returncode != 0
    # Of any rank, before torchrun ends the others.
    assert "error: --output: ranks of a launcher go to one directory; name it" in stderr


def test_a_run_that_torchrun_is_asked_to_end_is_saved(tmp_path: Path) -> None:
    config = config_file(tmp_path, num_steps=10**5)
    with _start(_TORCHRUN, "--config", config, "--output", "run", cwd=tmp_path) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("step "):
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate()
    assert stderr.count("asked to end after ") == 1
    assert len(CheckpointStore(tmp_path / "run" / "checkpoints").steps()) == 1
