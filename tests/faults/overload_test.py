"""A model is asked for more than it can compute: what its callers are told.

How long answers take is in the target's log, and of one run in docs/reliability.md; a machine with
other work says little of it. The policy alone, with a known model and no noise, is held to twice
the latency in serving/policies/latency_bound_test.py.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from registry.artifact import load
from serving.predictor import predictor
from serving.testing.example import example_images, publish_example
from serving.testing.gateway_process import Gateway, running
from tests.faults.callers import RIGHT, TOO_MUCH, Question, ask_at_rate, asking, question, questions
from tests.faults.events import Record, note

# Of 10 ms a request on a core, so that it is the model that is overloaded, and neither the gateway
# nor this process.
IMAGE_SIZE = 64
NETWORK = {"num_blocks": 32, "hidden_sizes": [64]}
MAX_BATCH = 16
NUM_QUESTIONS = 32

# Of what the model computes in full batches.
CALM, OVERLOAD = 0.3, 3.0
BURST_S = 1.0
LATE = "DEADLINE_EXCEEDED"


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return example_images(NUM_QUESTIONS, IMAGE_SIZE)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("slow") / "artifact"
    publish_example(directory, IMAGE_SIZE, network=NETWORK)
    return directory


@pytest.fixture(scope="module")
def logits(artifact: Path, images: np.ndarray) -> np.ndarray:
    return predictor(load(artifact))(images)


@pytest.fixture(scope="module")
def asked(images: np.ndarray, logits: np.ndarray) -> Sequence[Question]:
    return questions("digits", images, logits)


@pytest.fixture(scope="module")
def gateway(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    log = tmp_path_factory.mktemp("log") / "gateway.log"
    arguments = ["--model", artifact, "--max-batch-size", MAX_BATCH, "--log.success-rate", 0]
    with running(*arguments, "--log.level", "error", log=log) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def capacity_hz(gateway: Gateway, images: np.ndarray, logits: np.ndarray) -> float:
    """Examples a second in full batches: one is computed while the next one waits."""

    async def measure() -> float:
        full = question("digits", images[:MAX_BATCH], logits[:MAX_BATCH])
        async with asking(gateway.grpc, [full], callers=2) as counts:
            await asyncio.sleep(2.0)
        assert set(counts.results) == {RIGHT}, counts.details
        return MAX_BATCH * counts.answered / (time.monotonic() - counts.started)

    return asyncio.run(measure())


def test_what_is_too_much_is_refused_with_a_time_and_the_rest_is_right(
    gateway: Gateway, asked: Sequence[Question], capacity_hz: float, record_property: Record
) -> None:
    # Far above what was measured: this machine may have been busy then, and idle now.
    rate_hz = 2 * OVERLOAD * capacity_hz
    counts = asyncio.run(ask_at_rate(gateway.grpc, asked, rate_hz=rate_hz, seconds=3.0))
    note(record_property, f"{rate_hz:.0f} requests a second of {capacity_hz:.0f}", counts)
    assert set(counts.results) == {RIGHT, TOO_MUCH}, counts.details
    assert "too many requests wait for model 'digits'" in counts.details[TOO_MUCH]
    assert counts.unhinted == 0


@pytest.mark.parametrize("timeout_s", [60.0, 0.5])
def test_for_twenty_seconds_of_three_times_too_much_nothing_is_wrong_or_lost(
    gateway: Gateway,
    asked: Sequence[Question],
    capacity_hz: float,
    timeout_s: float,
    record_property: Record,
) -> None:
    calm, busy = (
        asyncio.run(
            ask_at_rate(
                gateway.grpc,
                asked,
                rate_hz=share * capacity_hz,
                seconds=20.0,
                timeout_s=timeout_s,
            )
        )
        for share in (CALM, OVERLOAD)
    )
    note(record_property, f"unloaded, deadlines of {timeout_s} s", calm)
    note(record_property, f"three times {capacity_hz:.0f} a second", busy)
    # Before anybody is refused a burst is let in, whose answers take longer.
    later_s = [took for at, took in busy.latencies_s if at >= busy.started + BURST_S]
    record_property(f"p99 after {BURST_S} s", round(float(np.quantile(later_s, 0.99)), 3))
    assert set(busy.results) <= {RIGHT, TOO_MUCH, LATE}, busy.details
    assert busy.results[RIGHT] and busy.results[TOO_MUCH]
    assert busy.unhinted == 0


def test_callers_who_wait_for_their_answers_are_all_served(
    gateway: Gateway, asked: Sequence[Question], record_property: Record
) -> None:
    async def run() -> None:
        # The gateway has refused others in the test before.
        await asyncio.sleep(2.0)
        async with asking(gateway.grpc, asked, callers=16) as counts:
            await asyncio.sleep(2.0)
        note(record_property, "16 callers", counts)
        assert set(counts.results) == {RIGHT}, counts.details

    asyncio.run(run())
