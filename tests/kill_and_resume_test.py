"""Kills at random moments, in each framework: nothing differs in the end, and little is lost.

Five of each in every run of all tests, and fifty in those of the night.
"""

import os
import secrets
from pathlib import Path

import pytest

from tests.kill_and_resume import MOST_LOST, Framework, kill_and_resume
from train.testing.trainer_programs import config_file


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where everything is, what JAX has compiled before included."""
    monkeypatch.setenv("TMPDIR", os.fspath(tmp_path))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", os.fspath(tmp_path / "compiled"))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    return tmp_path


# Both of a framework are neighbours, and so in one shard, of which only one is asked for.
@pytest.mark.parametrize(
    ("kills", "num_steps"), [pytest.param(5, 40, id="day"), pytest.param(50, 500, id="night")]
)
@pytest.mark.parametrize(("framework", "nproc"), [(Framework.FLAX, 1), (Framework.TORCH, 2)])
def test_a_killed_run_ends_with_the_same_bits(
    framework: Framework, nproc: int, kills: int, num_steps: int, folder: Path
) -> None:
    seed = secrets.randbelow(2**32)
    print(f"seed {seed}")
    config = config_file(folder, num_steps=num_steps)
    result = kill_and_resume(framework, config, folder, kills=kills, seed=seed, nproc=nproc)
    assert result.is_same
    assert len(result.kills) == kills
    assert max(kill.lost for kill in result.kills) <= MOST_LOST, result.kills
