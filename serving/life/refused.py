"""What aliases lead to and could not be loaded, and when it is tried again.

A replica that did not start, or a registry that did not answer, may have had a bad moment. What is
wrong with an artifact mostly stays wrong, but a file of it can be repaired: it is tried rarely.
"""

from collections.abc import Callable
from typing import NamedTuple

from models.architecture import ModelConfigError
from registry.artifact import ArtifactError
from serving.configuration.model_config import ModelConfig

# How long to wait after the first failure, and at most. Each try may start processes.
FIRST_S = 5.0
LONGEST_S = 300.0


class _Failure(NamedTuple):
    digest: str
    times: int
    not_before: float


class Refused:
    """The latest failure of each alias.

    Args:
        clock: Tells the time, in seconds since whenever.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures: dict[ModelConfig, _Failure] = {}

    def may_try(self, wanted: ModelConfig, digest: str) -> bool:
        """Whether it is time to load an artifact that an alias leads to."""
        failure = self._failures.get(wanted)
        return failure is None or failure.digest != digest or self._clock() >= failure.not_before

    def failed(self, wanted: ModelConfig, digest: str, error: Exception) -> None:
        """It could not be loaded. The wait doubles with each time in a row."""
        before = self._failures.get(wanted)
        times = before.times + 1 if before is not None and before.digest == digest else 1
        wait_s = min(FIRST_S * 2.0 ** (times - 1), LONGEST_S)
        if isinstance(error, ArtifactError | ModelConfigError):
            wait_s = LONGEST_S
        self._failures[wanted] = _Failure(digest, times, self._clock() + wait_s)

    def forget(self, wanted: ModelConfig) -> None:
        """It was loaded, or what it leads to is served."""
        self._failures.pop(wanted, None)
