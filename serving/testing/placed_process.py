"""`placed_model.py` as a child process, and what is left of it."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from types import MappingProxyType
from typing import Any

from serving.configuration.model_config import ModelOptions
from serving.control.options import RayConfig
from serving.control.reaper import marked

# Far more than anything takes, on a busy machine too.
PATIENCE_S = 300.0

Event = dict[str, Any]


class PlacedProcess:
    """A program that has placed a model, and what it tells.

    Attributes:
        events: All that it has told so far and a test has read.
        home: Its directory, once it was told.
    """

    def __init__(
        self, directory: Path, config: RayConfig, options: ModelOptions, env: Mapping[str, str]
    ) -> None:
        sections = (config.model_dump_json(), options.model_dump_json())
        # A file, since a pipe that nobody reads would hold it up.
        self._log = tempfile.TemporaryFile("a+")  # noqa: SIM115  it lives as long as this does
        self.process = subprocess.Popen(
            [sys.executable, "-m", "serving.testing.placed_model", str(directory), *sections],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,
            env=os.environ | {"HOME": "/nonexistent"} | dict(env),  # it must need no home directory
        )
        self.events: list[Event] = []
        self.home = Path("unknown")
        self._told: Queue[Event] = Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def command(self, command: str) -> None:
        """Has it do something."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()

    def next(self, event: str, holds: Callable[[Event], bool] = lambda _: True) -> Event:
        """Waits for what it tells next of this kind, and so that it holds."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                told = self._told.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                raise AssertionError(f"no {event}; told: {self.events}") from None
            self.events.append(told)
            if told["event"] == "up":
                self.home = Path(told["home"])
            if told["event"] == event and holds(told):
                return told
            assert told["event"] != "ended", f"it ended before {event}; told: {self.events}"

    def ask(self, command: str, event: str) -> Event:
        """Has it do something, and waits for what it tells of it."""
        self.command(command)
        return self.next(event)

    def end(self) -> int:
        """Ends its standard input, waits for its end, and returns its status."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(PATIENCE_S)

    def log(self) -> str:
        """What it has written to its standard error."""
        self._log.seek(0)
        return self._log.read()

    def left(self) -> list[int]:
        """Its Ray's processes that live."""
        return marked(str(self.home))

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._told.put(json.loads(line))
        self._told.put({"event": "ended"})


@contextmanager
def placed(
    directory: Path,
    config: RayConfig = RayConfig(),  # noqa: B008  frozen
    env: Mapping[str, str] = MappingProxyType({}),
    **options: Any,
) -> Iterator[PlacedProcess]:
    """Runs the program while the context is open.

    Args:
        directory: Of the artifact.
        config: Of its Ray.
        env: Variables beside those of this process.
        **options: Of ModelOptions.
    """
    process = PlacedProcess(directory, config, ModelOptions(**{"max_batch_size": 4} | options), env)
    try:
        yield process
    finally:
        process.process.kill()
        process.process.wait(PATIENCE_S)
        print(process.log())  # which is shown if the test has failed


def wait_until(holds: Callable[[], bool]) -> float:
    """Waits for what will hold at some time, and returns after how many seconds it did."""
    begun = time.monotonic()
    while not holds():
        assert time.monotonic() < begun + PATIENCE_S, "timed out"
        time.sleep(0.02)
    return time.monotonic() - begun
