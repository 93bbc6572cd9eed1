"""Arguments are checked, and help is printed, before anything that takes long is imported."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from registry.artifact import publish
from registry.example import example_artifact, example_tensors
from registry.trust.signing import generate_key_pair
from serving.testing.example import publish_example

HEAVY = {"ray", "jax", "torch", "flax", "deepspeed"}
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(*arguments: object) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """Runs a program, `serving.up` for example, and returns with it what it imported."""
    command = [sys.executable, "-X", "importtime", "-m", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    imports = [line for line in result.stderr.splitlines() if line.startswith("import time:")]
    return result, {line.rsplit("|", 1)[1].strip() for line in imports}


def refuse(*arguments: object) -> str:
    """The one line with which the gateway refuses its arguments."""
    command = [sys.executable, "-m", "serving.up", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["serving.up", "--help"], 0),
        (["serving.up"], 2),
        (["serving.up", "--model", ""], 2),
        (["serving.up", "--model", "/absent"], 2),
        (["serving.up", "--model", "/absent", "--grpc-port", "65536"], 2),
        (["serving.up", "--model", "/absent", "--framwork", "torch"], 2),
        (["serving.client.program", "--help"], 0),
        (["serving.client.program", "infer", "--model", "m", "--input", "/absent"], 2),
        (["serving.client.program", "ready", "--address", "nonsense"], 2),
    ],
)
def test_arguments_come_before_heavy_imports(arguments: list[str], status: int) -> None:
    result, imported = run(*arguments)
    assert result.returncode == status
    assert not imported & HEAVY
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("module", "target"),
    [("serving.up", "//serving:up"), ("serving.client.program", "//serving:client")],
)
def test_help_calls_a_program_as_it_is_started(module: str, target: str) -> None:
    result, _ = run(module, "--help")
    assert result.stdout.split()[:2] in (["usage:", target], ["Usage:", target])


def test_occupied_port_comes_before_heavy_imports(tmp_path: Path) -> None:
    loaded = publish_example(tmp_path / "artifact")
    with socket.socket() as occupant:
        occupant.bind(("127.0.0.1", 0))
        occupant.listen()
        port = occupant.getsockname()[1]
        result, imported = run("serving.up", "--model", loaded.directory, "--grpc-port", port)
    assert result.returncode == 2
    assert f"error: cannot listen on 127.0.0.1:{port}: the port is in use" in result.stderr
    assert "grpc" in imported
    assert not imported & HEAVY


def test_an_origin_that_is_not_trusted_is_refused_before_heavy_imports(tmp_path: Path) -> None:
    loaded = publish_example(tmp_path / "artifact")
    public = generate_key_pair(tmp_path / "release")
    trust = tmp_path / "trust.yaml"
    trust.write_text(f"keys:\n  - file: {public.name}\n")
    result, imported = run("serving.up", "--model", loaded.directory, "--trust", trust)
    assert result.returncode == 2
    assert "error: " in result.stderr and "signed" in result.stderr
    assert not imported & HEAVY


def test_what_is_no_artifact_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "artifact.pb").touch()
    assert refuse("--model", tmp_path / "absent") == (
        f"error: no artifact at {tmp_path}/absent: there is no such directory\n"
    )
    assert "artifact.pb: there is no such directory" in refuse("--model", tmp_path / "artifact.pb")
    assert "no artifact" in refuse("--model", "/etc")
    assert "File name too long" in refuse("--model", "./" + "x" * 300)


def test_weights_that_are_missing_or_truncated_are_refused_at_once(tmp_path: Path) -> None:
    publish_example(tmp_path / "artifact")
    weights = tmp_path / "artifact" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    message = refuse("--model", tmp_path / "artifact")
    assert message.startswith(f"error: {weights} is corrupt: expected ")
    weights.unlink()
    assert "is incomplete: model.safetensors missing" in refuse("--model", tmp_path / "artifact")


def test_a_model_that_cannot_be_served_is_refused(tmp_path: Path) -> None:
    loaded = publish_example(tmp_path / "one")
    text, unknown = example_artifact(), example_artifact()
    text.inputs[0].datatype = "BYTES"
    unknown.model.architecture = "unheard"
    publish(tmp_path / "text", text, loaded.tensors)
    publish(tmp_path / "unknown", unknown, example_tensors())
    assert "datatype BYTES, which cannot be served" in refuse("--model", tmp_path / "text")
    message = refuse("--model", tmp_path / "unknown")
    assert message.startswith("error: digits 1.2.3 cannot be computed: it has no portable program")
    assert message.endswith("got 'unheard'\n")


def end_within(module: str, directory: Path, number: int) -> tuple[int, str, str]:
    """Runs a gateway that `number` reaches as it imports `module`."""
    loaded = publish_example(directory / "artifact")
    arguments = ["up", "--grpc-port", "0", "--http-port", "0", "--admin-port", "0"]
    arguments += ["--model", str(loaded.directory), "--log.level", "warning"]
    start = (
        "import runpy, signal, sys\n"
        f"for number in {tuple(map(int, _SIGNALS))}: signal.signal(number, signal.SIG_DFL)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "class Finder:\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == {module!r}: sys.meta_path.remove(self); "
        f"signal.raise_signal({int(number)})\n"
        "sys.meta_path.insert(0, Finder())\n"
        f"sys.argv = {arguments}\n"
        "runpy.run_module('serving.up', run_name='__main__', alter_sys=True)\n"
    )
    ended = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True)
    return ended.returncode, ended.stdout, ended.stderr


@pytest.mark.parametrize("number", _SIGNALS)
def test_a_signal_while_it_is_imported_ends_it(number: int, tmp_path: Path) -> None:
    ended = end_within("pydantic", tmp_path, number)
    assert ended == (128 + number, "", "interrupted: nothing was started\n")


@pytest.mark.parametrize("number", _SIGNALS)
def test_a_signal_before_ray_is_started_ends_it(number: int, tmp_path: Path) -> None:
    assert end_within("serving.control.cluster", tmp_path, number) == (0, "", "")
