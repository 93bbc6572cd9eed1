"""Arguments are checked, and help is printed, before anything that takes long is imported."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from registry.trust.signing import generate_key_pair
from serving.example import publish_example

HEAVY = {"ray", "jax", "torch", "flax", "deepspeed"}


def run(*arguments: object) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """Runs a program, `serving.client` for example, and returns with it what it imported."""
    command = [sys.executable, "-X", "importtime", "-m", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    imports = [line for line in result.stderr.splitlines() if line.startswith("import time:")]
    return result, {line.rsplit("|", 1)[1].strip() for line in imports}


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["serving.gateway", "--help"], 0),
        (["serving.gateway"], 2),
        (["serving.gateway", "--artifact", ""], 2),
        (["serving.gateway", "--artifact", "/absent"], 2),
        (["serving.gateway", "--artifact", "/absent", "--port", "65536"], 2),
        (["serving.gateway", "--artifact", "/absent", "--port", "http"], 2),
        (["serving.gateway", "--artifact", "/absent", "--max-batch-size", "0"], 2),
        (["serving.gateway", "--artifact", "/absent", "--framwork", "torch"], 2),
        (["serving.client", "--help"], 0),
        (["serving.client", "infer", "--model", "m", "--input", "/absent"], 2),
        (["serving.client", "ready", "--address", "nonsense"], 2),
    ],
)
def test_arguments_come_before_heavy_imports(arguments: list[str], status: int) -> None:
    result, imported = run(*arguments)
    assert result.returncode == status
    assert "typer" in imported
    assert not imported & HEAVY
    assert "Traceback" not in result.stderr


def test_occupied_port_comes_before_heavy_imports(tmp_path: Path) -> None:
    loaded = publish_example(tmp_path / "artifact")
    with socket.socket() as occupant:
        occupant.bind(("127.0.0.1", 0))
        occupant.listen()
        port = occupant.getsockname()[1]
        result, imported = run("serving.gateway", "--artifact", loaded.directory, "--port", port)
    assert result.returncode == 2
    assert f"error: cannot listen on 127.0.0.1:{port}: the port is in use" in result.stderr
    assert "grpc" in imported
    assert not imported & HEAVY


def test_an_origin_that_is_not_trusted_is_refused_before_heavy_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = publish_example(tmp_path / "artifact")
    public = generate_key_pair(tmp_path / "release")
    (tmp_path / "trust.yaml").write_text(f"keys:\n  - file: {public.name}\n")
    monkeypatch.setenv("HPC_TRUST", str(tmp_path / "trust.yaml"))
    arguments = ["serving.gateway", "--artifact", loaded.directory, "--port", "65535"]
    result, imported = run(*arguments)
    assert result.returncode == 2
    assert "error: " in result.stderr and "signed" in result.stderr
    assert not imported & HEAVY
