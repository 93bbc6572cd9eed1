"""What did not start is tried ever more rarely, and an artifact that is wrong rarely at once."""

import pytest

from models.architecture import ModelConfigError
from registry.artifact import ArtifactError
from registry.errors import NotFoundError
from serving.configuration.model_config import ModelConfig
from serving.errors import StartError
from serving.life.refused import FIRST_S, LONGEST_S, Refused

CHAMPION = ModelConfig(reference="digits@champion")
LATEST = ModelConfig(reference="digits@latest")


class Clock:
    """Time that passes when told."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_each_failure_in_a_row_doubles_the_wait_up_to_a_limit() -> None:
    clock = Clock()
    refused, waits = Refused(clock), []
    for _ in range(9):
        assert refused.may_try(CHAMPION, "a")
        refused.failed(CHAMPION, "a", StartError("it did not start"))
        failed_at = clock.now
        while not refused.may_try(CHAMPION, "a"):
            clock.now += 1.0
        waits.append(clock.now - failed_at)
    assert waits == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0, 300.0]
    assert (waits[0], waits[-1]) == (FIRST_S, LONGEST_S)


@pytest.mark.parametrize("kind", [ArtifactError, NotFoundError, ModelConfigError])
def test_an_artifact_that_is_wrong_waits_the_longest_unless_the_alias_moves(
    kind: type[Exception],
) -> None:
    clock = Clock()
    refused = Refused(clock)
    refused.failed(CHAMPION, "a", kind("no"))
    clock.now += LONGEST_S - 1
    assert not refused.may_try(CHAMPION, "a")
    assert refused.may_try(CHAMPION, "b")
    assert refused.may_try(LATEST, "a")
    clock.now += 1
    assert refused.may_try(CHAMPION, "a")


@pytest.mark.parametrize("how", ["it was loaded", "the alias moved"])
def test_the_next_failure_is_a_first_one_again(how: str) -> None:
    clock = Clock()
    refused = Refused(clock)
    for _ in range(3):
        refused.failed(CHAMPION, "a", OSError("the registry does not answer"))
    if how == "it was loaded":
        refused.forget(CHAMPION)
        assert refused.may_try(CHAMPION, "a")
    digest = "a" if how == "it was loaded" else "b"
    refused.failed(CHAMPION, digest, StartError("it did not start"))
    clock.now += FIRST_S - 1
    assert not refused.may_try(CHAMPION, digest)
    clock.now += 1
    assert refused.may_try(CHAMPION, digest)
