"""A channel and its replica over real sockets: answers, order, cancelling, and errors."""

import asyncio
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from serving.core.channel import Computed, Job, ReplicaLostError
from serving.core.errors import Kind, ServingError
from serving.core.signature import TensorSpec
from serving.replicas.limits import Limits
from serving.testing.jobs import WAIT_S, Gate, Results, do, images, job, numbered
from serving.testing.local_replica import local_replica, mean_of_each_row, numpy_model, run, settled


def test_says_who_it_is_and_computes_batches_of_parts() -> None:
    async def test() -> None:
        async with local_replica(name="replica-7") as (channel, server):
            assert (channel.name, channel.digest) == ("replica-7", "0" * 64)
            assert (channel.version, channel.pid > 0) == ("1.2.3", True)
            assert channel.batch_sizes == (1, 2, 4, 8, 16, 32, 64)
            one, two, three = images(1), images(2), images(3)
            answer = await run(channel, job(one, two, three))
            logits = answer.outputs["logits"]
            expected = mean_of_each_row({"image": np.concatenate([one, two, three])})
            np.testing.assert_array_equal(logits, expected["logits"])
            assert not logits.flags.writeable and logits.flags.c_contiguous
            assert (answer.replica, answer.nonfinite) == ("replica-7", False)
            assert 0 < answer.infer_s < WAIT_S
            assert channel.in_flight == server.in_flight == 0
            assert server.addresses == [channel.address]

    do(test)


def test_answers_come_in_order_and_to_whom_they_belong() -> None:
    async def test() -> None:
        async with local_replica() as (channel, _):
            order: list[int] = []
            results: dict[int, Computed] = {}

            def on_done(number: int, result: Any) -> None:
                order.append(number)
                results[number] = result

            for i in range(200):
                channel.submit(job(numbered(i)), lambda result, i=i: on_done(i, result))
            await settled(lambda: len(order) == 200)
            assert order == list(range(200))
            assert [float(results[i].outputs["logits"][0, 0]) for i in order] == order

    do(test)


def test_nothing_is_called_before_submit_returns() -> None:
    async def test() -> None:
        async with local_replica() as (channel, server):
            await asyncio.to_thread(server.stop, 0)
            await settled(lambda: channel.lost)
            results: Results = []
            channel.submit(job(images(1)), results.append)
            assert results == []
            cancel = channel.submit(job(images(1)), results.append)
            cancel()
            await settled(lambda: len(results) == 2)  # also the one that was cancelled
            assert all(isinstance(result, ReplicaLostError) for result in results)
            assert channel.in_flight == 0

    do(test)


def test_cancelled_it_is_never_computed_and_in_flight_until_it_is_free() -> None:
    async def test() -> None:
        gate = Gate()
        async with local_replica(numpy_model(gate)) as (channel, server):
            results: Results = []
            running = channel.submit(job(numbered(1)), results.append)
            waiting = channel.submit(job(numbered(2)), results.append)
            channel.submit(job(numbered(3)), results.append)
            await gate.begun()
            assert channel.in_flight == 3
            running()
            waiting()
            waiting()  # twice is once
            # The one that waits is free at once, the one that is computed when it has been.
            await settled(lambda: channel.in_flight == 2)
            assert server.in_flight == 2
            gate.go_on.release(2)
            await settled(lambda: channel.in_flight == 0)
            assert gate.computed == [1, 3]
            ends = [
                float(r.outputs["logits"][0, 0]) if isinstance(r, Computed) else r.kind  # type: ignore[union-attr]
                for r in results
            ]
            assert ends == [Kind.CANCELLED, Kind.CANCELLED, 3]

    do(test)


def test_cancelled_its_memory_is_not_used_again_while_the_replica_reads_it() -> None:
    async def test() -> None:
        gate = Gate()
        limits = Limits(shared_min_bytes=1)
        async with local_replica(numpy_model(gate), limits=limits) as (channel, _):
            one, two = (channel.submit(job(numbered(i)), lambda _: None) for i in (1, 2))
            await gate.begun()
            assert channel.shared_bytes == 2 * 256
            one()
            two()
            await settled(lambda: channel.in_flight == 1)
            assert channel.shared_bytes == 256  # of the one that is being computed
            gate.go_on.release()
            await settled(lambda: channel.in_flight == 0)
            assert channel.shared_bytes == 0
            assert gate.computed == [1]

    do(test)


def test_what_nobody_waits_for_is_not_computed() -> None:
    async def test() -> None:
        gate = Gate()
        async with local_replica(numpy_model(gate)) as (channel, _):
            results: Results = []
            channel.submit(job(numbered(1)), results.append)
            await gate.begun()
            channel.submit(job(numbered(2), timeout_s=1e-9), results.append)
            channel.submit(job(numbered(3)), results.append)
            gate.go_on.release(3)
            await settled(lambda: len(results) == 3)
            assert gate.computed == [1, 3]
            assert isinstance(results[1], ServingError)
            assert results[1].kind is Kind.DEADLINE

    do(test)


def test_an_error_of_the_model_is_an_incident_whose_cause_is_for_the_log() -> None:
    def fails(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        raise RuntimeError("out of luck\nand more")

    async def test() -> None:
        async with local_replica(numpy_model(fails)) as (channel, _):
            with pytest.raises(ServingError) as failed:
                await run(channel, job(images(1)))
            error = failed.value
            assert error.kind is Kind.INTERNAL
            assert "luck" not in error.message
            assert "replica-1: RuntimeError: out of luck" in error.__notes__[0]
            assert "in fails" in error.__notes__[1]
            assert "Traceback" in error.__notes__[1]

    do(test)


class UnspeakableError(Exception):
    """An error that fails to say what it is."""

    def __str__(self) -> str:
        raise ValueError("unspeakable")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("not a \udcff character"),
        RuntimeError("long" * 100_000),
        RuntimeError(""),
        UnspeakableError(),
        SystemExit(3),
        MemoryError(),
    ],
    ids=["surrogate", "long", "empty", "unspeakable", "exit", "memory"],
)
def test_every_error_of_the_model_is_answered(error: BaseException) -> None:
    def fails(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        raise error

    async def test() -> None:
        async with local_replica(numpy_model(fails)) as (channel, _):
            for _ in range(2):  # and the worker goes on
                with pytest.raises(ServingError) as failed:
                    await run(channel, job(images(1)))
                assert type(error).__name__ in failed.value.__notes__[0]
                assert sum(map(len, failed.value.__notes__)) < 10_000

    do(test)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({}, "KeyError: 'logits'"),
        ({"logits": np.zeros((3, 10), np.float32)}, "logits of shape [3, 10] for 2 examples"),
        ({"logits": np.array([["a"], ["b"]])}, "logits has dtype <U1"),
    ],
)
def test_what_a_model_may_not_give_is_its_error(
    outputs: dict[str, np.ndarray], message: str
) -> None:
    async def test() -> None:
        async with local_replica(numpy_model(lambda _: outputs)) as (channel, _):
            for _ in range(2):  # the worker goes on
                with pytest.raises(ServingError) as failed:
                    await run(channel, job(images(2)))
                assert message in failed.value.__notes__[0]

    do(test)


def test_a_batch_that_is_not_the_models_is_refused_and_the_next_is_computed() -> None:
    async def test() -> None:
        async with local_replica(numpy_model(max_batch_size=4)) as (channel, _):
            with pytest.raises(ServingError) as refused:
                await run(channel, job(images(5)))
            assert refused.value.kind is Kind.INTERNAL  # the gateway ought to have known
            assert "expected one size from 1 to 4" in refused.value.__notes__[0]
            assert len((await run(channel, job(images(4)))).outputs["logits"]) == 4

    do(test)


def test_only_wanted_outputs_come_back_in_the_order_asked_for() -> None:
    specs = [TensorSpec(name, "INT64", (-1, 2)) for name in "abc"]

    def compute(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        a = inputs["a"]
        return {"a": a, "b": 2 * a, "c": 3 * a[:, ::-1]}

    model = numpy_model(compute, (specs[0],), tuple(specs))

    async def test() -> None:
        async with local_replica(model) as (channel, _):
            a = np.array([[1, 2], [3, 4], [5, 6]])
            answer = await run(channel, Job({"a": [a]}, 3, ("c", "a"), WAIT_S))
            assert list(answer.outputs) == ["c", "a"]
            np.testing.assert_array_equal(answer.outputs["c"], [[6, 3], [12, 9], [18, 15]])
            np.testing.assert_array_equal(answer.outputs["a"], a)

    do(test)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_outputs_that_are_no_numbers_are_told(value: float) -> None:
    def compute(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"logits": inputs["image"].reshape(-1, 64)[:, :10]}

    async def test() -> None:
        async with local_replica(numpy_model(compute)) as (channel, _):
            batch = images(3)
            batch[1, :, 0] = value  # 3e38 is finite, though no sum of several is
            answer = await run(channel, job(batch))
            assert answer.nonfinite is not np.isfinite(value)
            np.testing.assert_array_equal(answer.outputs["logits"], batch.reshape(-1, 64)[:, :10])

    do(test)
