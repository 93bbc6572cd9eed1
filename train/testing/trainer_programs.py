"""The trainers as programs, for tests of what they do and leave."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from train.testing.example import short_config

# The least there is: a program that prints more goes no further than its reader.
_PIPE_BYTES = 4096

MODULES = {"flax": "train.main_flax", "torch": "train.main_torch"}


def config_file(directory: Path, *, num_steps: int) -> Path:
    """Writes a short run's configuration as run.yaml."""
    path = directory / "run.yaml"
    path.write_text(yaml.safe_dump(short_config(num_steps=num_steps).model_dump()))
    return path


@contextmanager
def trainer(framework: str, *arguments: object, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """Starts a trainer for a user in `cwd`, kills what is left of it, and looks for its rubbish."""
    command = [sys.executable, "-m", MODULES[framework], *map(str, arguments)]
    temporary = cwd / "temporary"
    temporary.mkdir()
    # Relative paths are the user's, who is not where the program runs.
    environment = os.environ | {"BUILD_WORKING_DIRECTORY": str(cwd), "TMPDIR": str(temporary)}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pipesize=_PIPE_BYTES,
        env=environment,
        start_new_session=True,
        preexec_fn=_hear_signals,
    ) as process:
        try:
            yield process
        finally:
            process.kill()
    # Of ours; libraries leave caches there.
    assert not [path for path in temporary.iterdir() if path.name.startswith("tmp")]


def _hear_signals() -> None:
    """Undoes what `nohup` or a shell's `&` may have left to be inherited."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def run(framework: str, *arguments: object, cwd: Path) -> tuple[int, str, str]:
    """Returns a trainer's exit status, output and error output."""
    with trainer(framework, *arguments, cwd=cwd) as process:
        stdout, stderr = process.communicate()
        return process.returncode, stdout, stderr
