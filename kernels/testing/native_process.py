"""Native code of an operation in processes of its own: threads, forks, concurrent callers.

What an operation brings is a program that defines `run()`, which returns a digest of results.
"""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

_FORK = """
import os, sys
expected = run()
child = os.fork()
if child == 0:
    os._exit(0 if run() == expected else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

_CONCURRENT = """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(4) as pool:
    digests = list(pool.map(lambda _: run(), range(12)))
assert set(digests) == {run()}
"""


def python(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs a program with further environment variables; the test's limit ends one that hangs."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
    )


def assert_one_binary(jax_op: ModuleType, torch_op: ModuleType) -> None:
    """Asserts that both frameworks' sides of an operation have loaded one and the same binary."""
    assert jax_op._native is torch_op._native
    binary = f"{jax_op.__name__.split('.')[-2]}/_native"
    mapped = {
        line.split(maxsplit=5)[5].strip()
        for line in Path("/proc/self/maps").read_text().splitlines()
        if f"/{binary}" in line
    }
    assert len(mapped) == 1, mapped


def assert_same_digest(program: str, *environments: dict[str, str]) -> None:
    """Asserts that `run()` returns the same in each environment."""
    runs = [python(program + "print(run())", **env) for env in environments]
    for done in runs:
        assert done.returncode == 0, done.stderr
    assert len({done.stdout for done in runs}) == 1


def assert_forked_child_agrees(program: str, num_threads: int) -> None:
    """Asserts that a fork, whose parent has threads already, computes what the parent does."""
    done = python(program + _FORK, HPC_NUM_THREADS=str(num_threads))
    assert done.returncode == 0, done.stderr


def assert_concurrent_callers_agree(program: str, num_threads: int) -> None:
    """Asserts that threads that call at once compute what one does."""
    done = python(program + _CONCURRENT, HPC_NUM_THREADS=str(num_threads))
    assert done.returncode == 0, done.stderr
