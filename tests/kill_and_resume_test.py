"""Five kills at random moments, in each framework: nothing differs in the end."""

import os
import secrets
from pathlib import Path

import pytest

from tests.kill_and_resume import EVERY_STEPS, Framework, kill_and_resume
from train.testing.trainer_programs import config_file

# One save may be under way while the next is due, and a kill takes that under way along.
_MOST_LOST = 2 * EVERY_STEPS


@pytest.mark.parametrize(("framework", "nproc"), [(Framework.FLAX, 1), (Framework.TORCH, 2)])
def test_a_killed_run_ends_with_the_same_bits(
    framework: Framework, nproc: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", os.fspath(tmp_path))
    seed = secrets.randbelow(2**32)
    print(f"seed {seed}")
    config = config_file(tmp_path, num_steps=40)
    result = kill_and_resume(framework, config, tmp_path, kills=5, seed=seed, nproc=nproc)
    assert result.is_same
    for kill in result.kills:
        assert kill.step - kill.resumed <= _MOST_LOST, result.kills
