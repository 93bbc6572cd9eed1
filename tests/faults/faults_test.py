"""A gateway under load while parts of it die, hang and are damaged: what its callers are told.

No answer is ever wrong, nobody waits for a replica that is gone, and all is well afterwards. What
was counted is in the target's log; docs/reliability.md has the counts of one run.
"""

import json
import os
import shutil
import signal
import urllib.error
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from registry.artifact import load
from serving.testing.example import publish_example
from serving.testing.gateway_process import (
    START_S,
    Gateway,
    fetch,
    processes_of,
    replicas_of,
    running,
    wait_until,
)
from tests.faults.callers import RIGHT, WRONG, Question, example_questions
from tests.faults.events import STEADY_S, Record, during, note

NUM_QUESTIONS = 32
REPLICAS = 2


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("faults") / "artifact"
    publish_example(directory)
    return directory


@pytest.fixture(scope="module")
def asked(artifact: Path) -> Sequence[Question]:
    return example_questions(load(artifact), NUM_QUESTIONS)


@pytest.fixture(scope="module")
def gateway(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    log = tmp_path_factory.mktemp("log") / "gateway.log"
    arguments = ["--model", artifact, "--replicas", REPLICAS, "--drain.window-s", STEADY_S]
    with running(*arguments, "--log.success-rate", 0, log=log) as gateway:
        yield gateway


def ready(gateway: Gateway) -> dict[str, Any]:
    """What /readyz says."""
    try:
        return json.loads(fetch(gateway.admin, "/readyz"))
    except urllib.error.HTTPError as error:
        return json.load(error)


def all_replicas(gateway: Gateway) -> bool:
    """Whether as many are connected as there should be."""
    page = fetch(gateway.admin, "/metrics")
    lines = [line for line in page.splitlines() if line.startswith("gateway_replicas{")]
    return bool(lines) and float(lines[0].split()[-1]) == REPLICAS


def are_replaced(gateway: Gateway, victims: Sequence[int]) -> bool:
    """Whether others are there in place of these, and connected.

    The processes are looked at first: what a page tells in the moment of a death is still the past.
    """
    others = set(replicas_of(gateway.process.pid)) - set(victims)
    return len(others) == REPLICAS and all_replicas(gateway)


def kill(victims: Sequence[int]) -> None:
    """Kills those that are still there: one that an earlier test killed may be about to go."""
    for victim in victims:
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)


def test_a_replica_that_is_killed_costs_nobody_an_answer(
    gateway: Gateway, asked: Sequence[Question], record_property: Record
) -> None:
    victim = replicas_of(gateway.process.pid)[0]
    counts = during(
        gateway,
        asked,
        lambda: kill([victim]),
        lambda: are_replaced(gateway, [victim]),
    )
    note(record_property, "one of two replicas killed", counts)
    assert set(counts.results) == {RIGHT}, counts.details


def test_a_replica_that_hangs_is_given_up_and_replaced(
    gateway: Gateway, asked: Sequence[Question], record_property: Record
) -> None:
    victim = replicas_of(gateway.process.pid)[0]
    counts = during(
        gateway,
        asked,
        lambda: os.kill(victim, signal.SIGSTOP),
        lambda: are_replaced(gateway, [victim]),
    )
    note(record_property, "one of two replicas stopped", counts)
    assert set(counts.results) == {RIGHT}, counts.details


def test_without_replicas_callers_are_told_at_once_until_there_are_some(
    gateway: Gateway, asked: Sequence[Question], record_property: Record
) -> None:
    victims = replicas_of(gateway.process.pid)

    counts = during(gateway, asked, lambda: kill(victims), lambda: are_replaced(gateway, victims))
    note(record_property, "both replicas killed", counts)
    assert set(counts.results) == {RIGHT, "UNAVAILABLE"}, counts.details
    assert "replica" in counts.details["UNAVAILABLE"]


def test_an_artifact_that_is_damaged_is_refused_when_it_is_next_read(
    gateway: Gateway, asked: Sequence[Question], artifact: Path, record_property: Record
) -> None:
    weights = artifact / "model.safetensors"
    whole = shutil.copy(weights, artifact.parent / "whole")

    def damage() -> None:
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
        kill(replicas_of(gateway.process.pid))

    def says_so() -> bool:
        # Why is in the log: a path of this machine is not for everybody who may ask.
        refused = "its artifact is refused" in ready(gateway)["reason"]
        return refused and f"{weights} is corrupt: expected SHA-256" in gateway.log.read_text()

    counts = during(gateway, asked, damage, says_so)
    note(record_property, "artifact damaged and replicas killed", counts)
    assert set(counts.results) == {RIGHT, "UNAVAILABLE"}, counts.details
    shutil.copy(whole, weights)
    wait_until(lambda: all_replicas(gateway), START_S)


# The last to use the gateway that others share.
def test_told_to_end_it_answers_all_that_it_took(
    gateway: Gateway, asked: Sequence[Question], record_property: Record
) -> None:
    counts = during(
        gateway,
        asked,
        lambda: os.kill(gateway.process.pid, signal.SIGTERM),
        lambda: gateway.process.poll() is not None,
    )
    note(record_property, "the gateway ended under load", counts)
    # Refused once it takes no more, and nobody there afterwards; nothing lost on the way.
    assert set(counts.results) <= {RIGHT, "UNAVAILABLE"}, counts.details
    assert counts.results[WRONG] == 0
    assert gateway.process.returncode == 0
    wait_until(lambda: not processes_of(gateway.process.pid))
