"""`hpc show` prints what matters, and one line when it cannot."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from registry.artifact import load, publish
from registry.commands.app import app_with
from registry.example import example_artifact, example_tensors


def run(directory: str) -> Result:
    return CliRunner().invoke(app_with({}), ["show", directory])


def test_prints_every_fact(tmp_path: Path) -> None:
    publish(tmp_path / "artifact", example_artifact(), example_tensors())
    result = run(str(tmp_path / "artifact"))
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    for fact in [
        "digits 1.2.3 every file verified",
        f"sha256 {load(tmp_path / 'artifact').digest}",
        "architecture mlp",
        "trained in flax",
        "parameters 13 in 2 tensors",
        "num_classes 10",
        "input.patches.image_size 8",
        "hidden_sizes [16]",
        "input image FP32 [-1, 8, 8, 1]",
        "output logits FP32 [-1, 10]",
        "accuracy 0.97 [0.95, 0.98]",
        "calibration_error 0.02",
        "of examples 360",
        "started 2027-01-15T08:00:00Z",
        "took 42.0 s for 1,200 steps",
        f"config sha256 {'a' * 64}",
        "seed 7",
        "jax 0.10.2",
    ]:
        assert fact in lines


def test_sequences_are_told(tmp_path: Path) -> None:
    artifact = example_artifact()
    artifact.inputs.add(name="ids", datatype="INT64", shape=[-1, 4], padding=-1)
    artifact.outputs.add(name="next", datatype="INT64", shape=[-1, 4], follows="ids")
    publish(tmp_path / "artifact", artifact, example_tensors())
    result = run(str(tmp_path / "artifact"))
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "input ids INT64 [-1, 4], shorter ones filled up with -1" in lines
    assert "output next INT64 [-1, 4], as long as ids" in lines


def test_text_that_no_terminal_should_get_is_escaped(tmp_path: Path) -> None:
    artifact = example_artifact()
    artifact.model.config_json = r'{"no\nte": "\ud800 \u001b[31m é"}'
    publish(tmp_path / "artifact", artifact, example_tensors())
    result = run(str(tmp_path / "artifact"))
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert r"no\nte \ud800 \x1b[31m é" in lines


def test_relative_path_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tmp_path / "artifact", example_artifact(), example_tensors())
    monkeypatch.setenv("BUILD_WORKING_DIRECTORY", str(tmp_path))
    assert run("./artifact").exit_code == 0


@pytest.mark.parametrize(
    ("directory", "message"),
    [
        ("", "the artifact's directory is ''; name one, or '.' for this one"),
        (".", "artifact.pb.sha256 is missing"),
        ("./absent", "absent: there is no such directory"),
        ("./file", "file: there is no such directory"),
        ("./" + "x" * 300, "x: File name too long"),
        ("/proc/1/mem/x", "no artifact at /proc/1/mem/x: there is no such directory"),
    ],
)
def test_path_that_cannot_be_an_artifact_is_one_line_and_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, directory: str, message: str
) -> None:
    monkeypatch.setenv("BUILD_WORKING_DIRECTORY", str(tmp_path))
    (tmp_path / "file").touch()
    result = run(directory)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


def test_corrupt_artifact_is_one_line_and_status_2(tmp_path: Path) -> None:
    publish(tmp_path / "artifact", example_artifact(), example_tensors())
    (tmp_path / "artifact" / "model.safetensors").write_bytes(b"")
    result = run(str(tmp_path / "artifact"))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert "model.safetensors is corrupt" in result.stderr


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_result_that_a_full_disk_cuts_short_is_a_failure(
    tmp_path: Path, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path / "artifact", example_artifact(), example_tensors())
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        with pytest.raises(SystemExit, match="1"):
            app_with({})(["show", str(tmp_path / "artifact"), *options])
