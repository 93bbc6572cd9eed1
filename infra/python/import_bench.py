"""Times `import jax` and `import torch` from the lock against a plain virtual environment.

    ./bazelw run //infra/python:import_bench -- --venv DIR

DIR is a virtual environment with the same versions installed by pip. Both sides run in turns, each
import in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

_MODULES = ("jax", "torch")


def _seconds(python: Path, module: str, environment: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run([python, "-c", f"import {module}"], env=environment, check=True)
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venv", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    if options.repeats < 1:
        parser.error(f"--repeats must be at least 1, got {options.repeats}")
    plain = options.venv / "bin" / "python"
    if not plain.exists():
        parser.error(f"{plain} does not exist; --venv takes a virtual environment")

    without = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    sides = {"venv": (plain, without), "locked": (Path(sys.executable), dict(os.environ))}
    seconds: dict[tuple[str, str], list[float]] = {}
    for _ in range(options.repeats):
        for module in _MODULES:
            for side, (python, environment) in sides.items():
                elapsed = _seconds(python, module, environment)
                seconds.setdefault((module, side), []).append(elapsed)

    heading = f"{'module':8}{'venv':>10}{'locked':>10}{'ratio':>8}"
    print(f"{heading}   (median seconds of {options.repeats})")
    for module in _MODULES:
        venv, locked = (statistics.median(seconds[module, side]) for side in sides)
        print(f"{module:8}{venv:10.3f}{locked:10.3f}{locked / venv:8.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
