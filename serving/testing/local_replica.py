"""Replicas for tests: a real one in this process behind its socket, and one without any socket."""

import asyncio
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from serving.core.channel import Computed, Job, OnDone
from serving.core.errors import Kind, ServingError
from serving.core.signature import TensorSpec
from serving.replicas.channel import ReplicaChannel
from serving.replicas.compute import Compute, computed
from serving.replicas.connecting import connect
from serving.replicas.limits import DEFAULT, Limits
from serving.replicas.model import LoadedModel, batch_sizes
from serving.replicas.server import RunningServer, serve

IMAGE = TensorSpec("image", "FP32", (-1, 8, 8, 1))
LOGITS = TensorSpec("logits", "FP32", (-1, 10))


def mean_of_each_row(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A model that can be checked by hand: logits[i] = mean(image) + i."""
    images = inputs["image"]
    means = images.reshape(len(images), -1).mean(axis=1, keepdims=True)
    return {"logits": (means + np.arange(10)).astype(np.float32)}


def numpy_model(
    compute: Compute = mean_of_each_row,
    inputs: tuple[TensorSpec, ...] = (IMAGE,),
    outputs: tuple[TensorSpec, ...] = (LOGITS,),
    max_batch_size: int = 64,
) -> LoadedModel:
    """A function of arrays as a loaded model, without an artifact."""
    return LoadedModel(
        digest="0" * 64,
        version="1.2.3",
        inputs=inputs,
        outputs=outputs,
        batch_sizes=batch_sizes(max_batch_size),
        compute=compute,
    )


@asynccontextmanager
async def local_replica(
    model: LoadedModel | None = None,
    *,
    name: str = "replica-1",
    limits: Limits = DEFAULT,
    on_lost: Callable[[], None] = lambda: None,
) -> AsyncIterator[tuple[ReplicaChannel, RunningServer]]:
    """Yields a channel to a replica that runs in threads of this process, and its server."""
    token = secrets.token_bytes(32)
    # A short path, which the sandbox's own directory for tests is not.
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        server = serve(
            model or numpy_model(),
            name=name,
            unix_path=Path(directory) / "socket",
            tcp_host=None,
            token=token,
            limits=limits,
        )
        try:
            channel = await connect(server.addresses[0], token, on_lost, limits=limits)
            try:
                yield channel, server
            finally:
                channel.close()
        finally:
            await asyncio.to_thread(server.stop, 0)


class InProcessChannel:
    """A channel that computes in the event loop itself, a turn later, without any socket.

    Args:
        compute: The model. A ServingError that it raises is what the job ends with.
        name: Of the replica.
    """

    def __init__(self, compute: Compute = mean_of_each_row, name: str = "replica-1") -> None:
        self.name = name
        self.in_flight = 0
        self._compute = compute

    def submit(self, job: Job, on_done: OnDone) -> Callable[[], None]:
        """See `Channel.submit`."""
        self.in_flight += 1
        cancelled = False

        def cancel() -> None:
            nonlocal cancelled
            cancelled = True

        def answer() -> None:
            self.in_flight -= 1
            gone = ServingError(Kind.CANCELLED, "cancelled")
            on_done(gone if cancelled else self._answer(job))

        asyncio.get_running_loop().call_soon(answer)
        return cancel

    def _answer(self, job: Job) -> Computed | ServingError:
        inputs = {name: np.concatenate(parts) for name, parts in job.inputs.items()}
        try:
            return computed(self._compute, inputs, job.outputs, job.batch_size, self.name)
        except ServingError as error:
            return error
        except Exception as error:
            failed = ServingError(Kind.INTERNAL, secrets.token_hex(4), reason="model_failed")
            failed.add_note(repr(error))
            return failed


async def run(channel: "InProcessChannel | ReplicaChannel", job: Job) -> Computed:
    """Submits a job and waits for what it ends with.

    Raises:
        ReplicaLostError, ServingError: As the channel answers.
    """
    done: asyncio.Future[Computed] = asyncio.get_running_loop().create_future()

    def on_done(result: Computed | Exception) -> None:
        if isinstance(result, Exception):
            done.set_exception(result)
        else:
            done.set_result(result)

    channel.submit(job, on_done)
    return await done


async def settled(condition: Callable[[], bool]) -> None:
    """Returns as soon as something is so, of which no event tells."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.001)
