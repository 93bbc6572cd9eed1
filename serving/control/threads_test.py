"""How many threads a replica's framework gets."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serving.control.threads import fair_threads, usable_cores

# What each framework itself says, or has started.
TORCH = "import torch; print(torch.get_num_threads())"
JAX = (
    "import os, jax; jax.jit(lambda x: x + 1)(1.0).block_until_ready()\n"
    "tasks = '/proc/self/task'\n"
    "print([open(f'{tasks}/{task}/comm').read() for task in os.listdir(tasks)]"
    ".count('tf_XLAEigen\\n'))"
)


@pytest.mark.parametrize(("framework", "threads"), [(TORCH, 1), (JAX, 1), (JAX, 5)])
def test_frameworks_have_the_threads_that_they_are_told(framework: str, threads: int) -> None:
    limit = f"from serving.control.threads import limit_threads; limit_threads({threads})\n"
    environ = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    said = subprocess.run(
        [sys.executable, "-c", limit + framework],
        env=environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(said.stdout) == threads


@pytest.mark.parametrize(
    ("replicas", "cores", "threads"), [(1, 8, 8), (2, 8, 4), (3, 8, 2), (8, 8, 1), (64, 2, 1)]
)
def test_cores_are_shared_fairly(replicas: int, cores: int, threads: int) -> None:
    assert fair_threads(replicas, cores) == threads


def test_a_containers_quota_counts(tmp_path: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    quota = tmp_path / "cpu.max"
    assert usable_cores(quota) == cores
    for content, expected in (
        ("max 100000", cores),
        ("50000 100000", 1),
        (f"{100_000 * (cores + 3)} 100000", cores),
        ("no numbers", cores),
    ):
        quota.write_text(content)
        assert usable_cores(quota) == expected
