"""Callers that ask without pause, and count what they were told."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import numpy as np
from inference import grpc_service_pb2 as oip
from inference import grpc_service_pb2_grpc as oip_grpc

from registry.artifact import LoadedArtifact
from serving.client.load import run_open
from serving.predictor import predictor
from serving.testing.example import example_images

# After so many milliseconds to try again, as gRPC's clients understand it.
PUSHBACK = "grpc-retry-pushback-ms"
# How exact the batch that a request happens to be in leaves its answer.
TOLERANCE = 1e-4
RIGHT = "answered"
WRONG = "answered wrongly"
TOO_MUCH = "RESOURCE_EXHAUSTED"


@dataclass(frozen=True)
class Question:
    """A request whose answer is known."""

    message: oip.ModelInferRequest
    logits: np.ndarray


@dataclass
class Counts:
    """What became of the requests.

    Attributes:
        results: how many by RIGHT, WRONG or the name of a status.
        details: the latest message of each status.
        latencies_s: of those that were answered, with the time at which each was.
        refusals_s: how long those took that were not.
        unhinted: how many were told that it is too much, and not when to come back.
        started: when counting began, as `latencies_s` of `time.monotonic`.
    """

    results: Counter[str] = field(default_factory=Counter)
    details: dict[str, str] = field(default_factory=dict)
    latencies_s: list[tuple[float, float]] = field(default_factory=list)
    refusals_s: list[float] = field(default_factory=list)
    unhinted: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def answered(self) -> int:
        """Requests that were answered rightly."""
        return self.results[RIGHT]

    def quantile_s(self, share: float) -> float:
        """Of the latencies of those that were answered."""
        return float(np.quantile([latency for _, latency in self.latencies_s], share))

    def longest_gap_s(self) -> float:
        """The longest time without any answer."""
        times = sorted(at for at, _ in self.latencies_s)
        return float(max(np.diff([self.started, *times]), default=np.inf))


def questions(model: str, inputs: np.ndarray, logits: np.ndarray) -> list[Question]:
    """One question an image, with what the model says of it."""
    return [
        question(model, example[np.newaxis], answer)
        for example, answer in zip(inputs, logits, strict=True)
    ]


def example_questions(model: LoadedArtifact, number: int) -> list[Question]:
    """So many of the example model, served as "digits"."""
    images = example_images(number)
    return questions("digits", images, predictor(model)(images))


def question(model: str, images: np.ndarray, logits: np.ndarray) -> Question:
    """One about all images together."""
    message = oip.ModelInferRequest(model_name=model, raw_input_contents=[images.tobytes()])
    message.inputs.add(name="image", datatype="FP32", shape=images.shape)
    return Question(message, logits)


@asynccontextmanager
async def asking(
    address: str, asked: Sequence[Question], *, callers: int, timeout_s: float = 60.0
) -> AsyncIterator[Counts]:
    """Asks in a closed loop while the context is open; all that was asked is counted at its end."""
    counts, stop = Counts(), asyncio.Event()

    async def call(stubs: Sequence[oip_grpc.GRPCInferenceServiceStub], number: int) -> None:
        turn = number
        while not stop.is_set():
            turn += 1
            refused = await ask(
                stubs[number % len(stubs)], asked[turn % len(asked)], counts, timeout_s
            )
            # Whoever was refused waits a little, or nothing but refusals would be measured.
            await asyncio.sleep(0.02 if refused else 0)

    async with connected(address, min(callers, 4)) as stubs:
        tasks = [asyncio.create_task(call(stubs, number)) for number in range(callers)]
        try:
            yield counts
        finally:
            stop.set()
            await asyncio.gather(*tasks)


async def ask_at_rate(
    address: str,
    asked: Sequence[Question],
    *,
    rate_hz: float,
    seconds: float,
    timeout_s: float = 60.0,
) -> Counts:
    """Asks in an open loop: at random times, whether others have been answered or not."""
    counts, turns = Counts(), itertools.count()
    async with connected(address, 4) as stubs:

        async def call() -> None:
            turn = next(turns)
            await ask(stubs[turn % len(stubs)], asked[turn % len(asked)], counts, timeout_s)

        await run_open(call, rate_hz, seconds)
    return counts


@asynccontextmanager
async def connected(
    address: str, connections: int
) -> AsyncIterator[Sequence[oip_grpc.GRPCInferenceServiceStub]]:
    """Connects several times, as callers on several machines would."""
    channels = [
        grpc.aio.insecure_channel(
            address, [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
        )
        for _ in range(connections)
    ]
    try:
        yield [oip_grpc.GRPCInferenceServiceStub(channel) for channel in channels]
    finally:
        await asyncio.gather(*(channel.close() for channel in channels))


async def ask(
    stub: oip_grpc.GRPCInferenceServiceStub, question: Question, counts: Counts, timeout_s: float
) -> bool:
    """Asks once, counts, and returns whether it was refused."""
    start = time.monotonic()
    try:
        reply = await stub.ModelInfer(question.message, timeout=timeout_s)
    except grpc.aio.AioRpcError as error:
        counts.results[error.code().name] += 1
        counts.details[error.code().name] = error.details() or ""
        counts.refusals_s.append(time.monotonic() - start)
        hints = [key for key, _ in error.trailing_metadata() or ()]
        if error.code().name == TOO_MUCH and PUSHBACK not in hints:
            counts.unhinted += 1
        return True
    end = time.monotonic()
    logits = np.frombuffer(reply.raw_output_contents[0], np.float32).reshape(question.logits.shape)
    right = np.allclose(logits, question.logits, rtol=TOLERANCE, atol=TOLERANCE)
    counts.results[RIGHT if right else WRONG] += 1
    counts.latencies_s.append((end, end - start))
    return False
