"""A replica in a process of its own, without Ray and without a network: bytes come, bytes go."""

import multiprocessing
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

import numpy as np

from serving.core.signature import TensorSpec
from serving.replicas.compute import Compute
from serving.replicas.limits import DEFAULT, Limits
from serving.replicas.model import LoadedModel, batch_sizes
from serving.replicas.server import serve

X = TensorSpec("x", "UINT8", (-1, -1))
Y = TensorSpec("y", "UINT8", (-1, -1))

# An example that begins with this keeps the process busy until it is killed.
SLEEP = 255


def echo(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Gives what it was given, in the very same memory."""
    return {"y": inputs["x"]}


def successor(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Adds one to each byte, unless it is to sleep."""
    if inputs["x"].size and inputs["x"].flat[0] == SLEEP:
        time.sleep(3600)
    return {"y": inputs["x"] + np.uint8(1)}


def bytes_to_bytes(compute: Compute) -> LoadedModel:
    """Returns a model of X and Y."""
    return LoadedModel(
        digest="0" * 64,
        version="1.2.3",
        inputs=(X,),
        outputs=(Y,),
        batch_sizes=batch_sizes(2**20),
        compute=compute,
    )


@dataclass(frozen=True)
class ReplicaProcess:
    """A process that serves.

    Attributes:
        process: To be killed or stopped.
        addresses: Its Unix socket and its TCP port.
        token: That it accepts.
    """

    process: SpawnProcess
    addresses: list[str]
    token: bytes


@contextmanager
def replica_process(
    compute: Compute = successor,
    *,
    load: Callable[[], LoadedModel] | None = None,
    limits: Limits = DEFAULT,
    prepare: Callable[[], None] | None = None,
) -> Iterator[ReplicaProcess]:
    """Runs a replica in a new process, and kills it at the end.

    Args:
        compute: Of this module, or of another that the process can import.
        load: Called in the process instead, to load another model.
        limits: The replica's.
        prepare: Called in the process first.
    """
    token = secrets.token_bytes(32)
    if load is None:
        load = partial(bytes_to_bytes, compute)
    if load is None:
        load = partial(bytes_to_bytes, compute)
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    # A short path, which the sandbox's own directory for tests is not.
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        process = spawn.Process(
            target=_serve,
            args=(theirs, Path(directory) / "socket", token, load, limits, prepare),
            daemon=True,
        )
        process.start()
        theirs.close()
        try:
            yield ReplicaProcess(process, ours.recv(), token)
        finally:
            process.kill()
            process.join()


def _serve(
    control: Connection,
    path: Path,
    token: bytes,
    load: Callable[[], LoadedModel],
    limits: Limits,
    prepare: Callable[[], None] | None,
) -> None:
    if prepare is not None:
        prepare()
    server = serve(
        load(),
        name=f"replica-{path.parent.name}",
        unix_path=path,
        tcp_host="127.0.0.1",
        token=token,
        limits=limits,
    )
    control.send(server.addresses)
    try:
        control.recv()  # until whoever started it is gone
    except EOFError:
        server.stop(0)
