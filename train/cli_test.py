"""The trainers as their users meet them: as programs."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from registry.artifact import load
from train.example import short_config

MODULES = {"flax": "train.train_flax", "torch": "train.train_torch"}


def _config_file(directory: Path, *, num_steps: int) -> Path:
    path = directory / "run.yaml"
    path.write_text(yaml.safe_dump(short_config(num_steps=num_steps).model_dump()))
    return path


@contextmanager
def _trainer(framework: str, *arguments: object, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", MODULES[framework], *map(str, arguments)]
    # Relative paths are the user's, who is not where the program runs.
    environment = os.environ | {"BUILD_WORKING_DIRECTORY": str(cwd)}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _run(framework: str, *arguments: object, cwd: Path) -> tuple[int, str, str]:
    with _trainer(framework, *arguments, cwd=cwd) as process:
        stdout, stderr = process.communicate()
        return process.returncode, stdout, stderr


@pytest.mark.parametrize("framework", MODULES)
def test_trains_and_publishes(framework: str, tmp_path: Path) -> None:
    _config_file(tmp_path, num_steps=3)
    code, stdout, stderr = _run(
        framework, "--config", "run.yaml", "--output", "new/artifact", cwd=tmp_path
    )
    assert (code, stderr) == (0, "")
    lines = stdout.splitlines()
    assert [line.split("  ")[0] for line in lines[:4]] == [
        "step 1/3",
        "step 2/3",
        "step 3/3",
        "held-out",
    ]
    assert lines[4] == f"published digits 1.0.0 to {tmp_path / 'new/artifact'}"
    assert load(tmp_path / "new/artifact").artifact.training_run.steps == 3


def test_quiet_prints_nothing(tmp_path: Path) -> None:
    _config_file(tmp_path, num_steps=1)
    result = _run("flax", "--config", "run.yaml", "--output", "a", "--quiet", cwd=tmp_path)
    assert result == (0, "", "")
    load(tmp_path / "a")


@pytest.mark.parametrize("framework", MODULES)
def test_refuses_a_directory_in_use_before_training(framework: str, tmp_path: Path) -> None:
    _config_file(tmp_path, num_steps=10**6)
    occupied = tmp_path / "occupied"
    occupied.mkdir()
    (occupied / "file").write_text("mine")
    code, stdout, stderr = _run(
        framework, "--config", "run.yaml", "--output", "occupied", cwd=tmp_path
    )
    assert (code, stdout) == (2, "")
    assert stderr.startswith(f"error: {occupied} exists and is not empty")
    assert (occupied / "file").read_text() == "mine"


def test_refuses_a_parent_that_is_a_file(tmp_path: Path) -> None:
    config = _config_file(tmp_path, num_steps=10**6)
    code, _, stderr = _run("flax", "--config", config, "--output", "run.yaml/a", cwd=tmp_path)
    assert code == 2
    assert stderr.startswith(f"error: cannot write to {config}; choose a directory")


def test_bad_configuration_is_reported_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("optimiser: adam\n")
    code, stdout, stderr = _run("torch", "--config", "run.yaml", "--output", "a", cwd=tmp_path)
    assert (code, stdout) == (2, "")
    assert stderr.startswith(f"error: {tmp_path / 'run.yaml'} is not a training configuration:\n")
    assert "  optimiser: unknown key, did you mean 'optimizer'? (accepted: artifact, " in stderr
    assert "Traceback" not in stderr
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("override", ["torch.num_threads=1", "zero.stage=1"])
def test_flax_refuses_what_only_torch_heeds(tmp_path: Path, override: str) -> None:
    _config_file(tmp_path, num_steps=1)
    code, _, stderr = _run("flax", "--config", "run.yaml", "--set", override, cwd=tmp_path)
    assert code == 2
    section = override.partition(".")[0]
    assert stderr == f"error: {section}: only //train:torch heeds this section; remove it\n"


def test_torch_refuses_a_distributed_launch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _config_file(tmp_path, num_steps=1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, stderr = _run("torch", "--config", "run.yaml", "--output", "a", cwd=tmp_path)
    assert code == 2
    assert stderr.startswith("error: WORLD_SIZE is 2, but this trainer starts its processes its")


@pytest.mark.parametrize("framework", MODULES)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "run.seed"], "--set run.seed: expected key.path=value"),
        (["--nproc", "3"], "data.global_batch_size: 64 images cannot be shared equally by the 3 r"),
        (["--set", "gradient_compression.enabled=true"], "gradient_compression.enabled: one rank"),
    ],
)
def test_bad_arguments_are_refused_before_training(
    framework: str, arguments: list[str], message: str, tmp_path: Path
) -> None:
    config = _config_file(tmp_path, num_steps=10**6)
    code, stdout, stderr = _run(framework, "--config", config, *arguments, cwd=tmp_path)
    assert (code, stdout) == (2, "")
    assert stderr.startswith(f"error: {message}")
    assert list(tmp_path.iterdir()) == [config]


@pytest.mark.parametrize("framework", MODULES)
def test_two_ranks_compress_what_they_send(framework: str, tmp_path: Path) -> None:
    _config_file(tmp_path, num_steps=2)
    code, stdout, stderr = _run(
        *(framework, "--config", "run.yaml", "--nproc", 2),
        *("--set", "gradient_compression.enabled=true", "--set", "artifact.name=named"),
        cwd=tmp_path,
    )
    assert (code, stderr) == (0, "")
    lines = stdout.splitlines()
    assert [line.split("  ")[0] for line in lines[:3]] == ["step 1/2", "step 2/2", "held-out"]
    assert re.fullmatch(
        r"sent \d+\.\d kB a step from each rank, 0\.2\d\dx of float32 "
        r"\(gradient compression: int8, blocks of 256, error feedback\)",
        lines[3],
    )
    [directory] = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"named-1\.0\.0-\d{8}T\d{6}Z", directory.name)
    assert lines[4] == f"published named 1.0.0 to {directory}"
    load(directory)


def test_a_killed_rank_ends_the_run(tmp_path: Path) -> None:
    config = _config_file(tmp_path, num_steps=10**5)
    with _trainer("torch", "--config", config, "--nproc", 2, cwd=tmp_path) as process:
        assert process.stdout.readline().startswith("step ")
        os.kill(max(_ranks_of(process.pid)), signal.SIGKILL)
        _, stderr = process.communicate()
    assert process.returncode == 1
    assert stderr.startswith("error: rank ")
    assert "was killed by SIGKILL" in stderr.splitlines()[0]
    assert list(tmp_path.iterdir()) == [config]


@pytest.mark.parametrize(("framework", "nproc"), [("flax", 1), ("torch", 1), ("torch", 2)])
def test_ctrl_c_ends_the_run_and_leaves_nothing(framework: str, nproc: int, tmp_path: Path) -> None:
    config = _config_file(tmp_path, num_steps=10**5)
    with _trainer(framework, "--config", config, "--nproc", nproc, cwd=tmp_path) as process:
        assert process.stdout.readline().startswith("step ")
        ranks = _ranks_of(process.pid)
        assert len(ranks) == (0 if nproc == 1 else nproc)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, stderr = process.communicate()
    assert process.returncode == 130
    assert stderr == "interrupted: nothing half-written was left\n"
    assert list(tmp_path.iterdir()) == [config]
    assert not any(Path(f"/proc/{pid}").exists() for pid in ranks)


def _ranks_of(parent: int) -> list[int]:
    """Process ids of the ranks that `parent` started."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            is_child = f"\nPPid:\t{parent}\n" in (process / "status").read_text()
            if is_child and b"spawn_main" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:  # it ended meanwhile
            continue
    return found
