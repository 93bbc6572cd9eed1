"""Runs of the trainers as programs: what they print and leave."""

import re
from pathlib import Path

import pytest

from registry.artifact import load
from train.testing.trainer_programs import MODULES, config_file, run


def test_quiet_prints_nothing(tmp_path: Path) -> None:
    config_file(tmp_path, num_steps=3)
    result = run("torch", "--config", "run.yaml", "--output", "new/a", "--quiet", cwd=tmp_path)
    assert result == (0, "", "")
    assert load(tmp_path / "new/a/artifact").artifact.training_run.steps == 3


@pytest.mark.parametrize("framework", MODULES)
def test_two_ranks_compress_what_they_send(framework: str, tmp_path: Path) -> None:
    config_file(tmp_path, num_steps=2)
    code, stdout, stderr = run(
        *(framework, "--config", "run.yaml", "--nproc", 2),
        *("--set", "gradient_compression.enabled=true", "--set", "artifact.name=named"),
        cwd=tmp_path,
    )
    assert (code, stderr) == (0, "")
    lines = stdout.splitlines()
    assert [line.split("  ")[0] for line in lines[:2]] == ["step 1/2", "step 2/2"]
    assert re.fullmatch(
        r"sent \d+\.\d kB a step from each rank, 0\.2\d\dx of float32 "
        r"\(gradient compression: int8, blocks of 256, error feedback\)",
        lines[2],
    )
    assert re.fullmatch(r"peak memory of a rank: \d+\.\d [MG]B", lines[3])
    assert lines[4].startswith("held-out  accuracy ")
    [directory] = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"named-1\.0\.0-\d{8}T\d{6}Z-[0-9a-f]{6}", directory.name)
    assert lines[5] == f"published named 1.0.0 to {directory / 'artifact'}"
    load(directory / "artifact")
