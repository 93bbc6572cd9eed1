"""Who is compared: the servers and how they are started, the sides and how they are asked."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from benchmarks.serving import cases
from benchmarks.serving.grpc_caller import GrpcCaller
from benchmarks.serving.http_caller import HttpCaller
from benchmarks.serving.job import Job
from benchmarks.serving.served import Served
from benchmarks.serving.wire import (
    base64_request,
    bytes_answer,
    bytes_request,
    grpc_answer,
    grpc_request,
    oip_binary_answer,
    oip_binary_request,
    oip_json_answer,
    oip_json_request,
)

# How long peers that merge requests wait for more of them: of 1, 2, 5 and 10 ms each one's best at
# 32 callers of the larger of the small models (2 cores of an AMD EPYC, 2026-11-29).
_LITSERVE_BATCH_S = 0.005
_MLSERVER_GRPC_BATCH_S = 0.005
_MLSERVER_JSON_BATCH_S = 0.001
_NO_BATCHES_S = 0.0

# The same of Ray Serve's `@serve.batch`.
_RAY_BATCH_S = 0.002

# Under which names MLServer has the model and Ray Serve has applications, so that one of each does
# for all; and how long a request waits for others.
_RAY_NAMES = {"single": _NO_BATCHES_S, "batched": _RAY_BATCH_S}
_MLSERVER_NAMES = {
    "single": _NO_BATCHES_S,
    "batched-grpc": _MLSERVER_GRPC_BATCH_S,
    "batched-json": _MLSERVER_JSON_BATCH_S,
}


class Caller(Protocol):
    """A connection to a server."""

    async def ask(self, request: bytes) -> bytes:
        """Sends a request and returns the answer; raises whatever keeps it from one."""

    async def close(self) -> None:
        """Ends the connection."""


class Server(NamedTuple):
    """A program that serves one model.

    Attributes:
        command: Given the model and the ports.
        num_ports: That it listens on.
        may_pause: Whether it can be stopped and continued by signals, unlike those that would
            take their own silence for the death of a part.
        in_our_environment: Whether it finds our packages, or brings those of others.
    """

    command: Callable[[Served, Sequence[int]], Sequence[str | Path]]
    num_ports: int
    may_pause: bool = True
    in_our_environment: bool = True


class Side(NamedTuple):
    """A server through one of its protocols.

    Attributes:
        server: Which.
        connect: Given the server's ports.
        request: One example as it travels.
        answer: The values of an answer.
        never_again: Whether no two requests are to be alike; of gRPC alone.
    """

    server: str
    connect: Callable[[Sequence[int]], Caller]
    request: Callable[[Job, np.ndarray], bytes]
    answer: Callable[[bytes], np.ndarray]
    never_again: bool = False


def _module(name: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", name, *map(str, arguments)]


def _ours(served: Served, ports: Sequence[int], *options: object) -> list[str]:
    """The one place where our own server's command line stands."""
    listen = ["--grpc-port", ports[0], "--http-port", ports[1], "--admin-port", 0]
    # One thread, as all others have; large tensors in JSON too, which by default are refused; and
    # an end without a window in which callers turn away.
    same = ["--ray.threads-per-replica", 1, "--http.max-json-bytes", 2**26, "--drain.window-s", 0]
    return _module("serving.up", "--model", served.artifact, *listen, *same, *options)


def _in_our_environment(program: str, num_ports: int, *arguments: object) -> Server:
    module = f"benchmarks.serving.{program}"
    return Server(
        lambda served, ports: _module(module, served.job_file, *ports, *arguments), num_ports
    )


def _names(waits_s: Mapping[str, float]) -> list[str]:
    return [f"{name}={wait_s}" for name, wait_s in waits_s.items()]


def _peer(program: str) -> Path:
    """A program of another environment, where Bazel has put it."""
    return Path(__file__).with_name(program)


def _of_peer(program: str, num_ports: int, *arguments: object) -> Server:
    return Server(
        lambda served, ports: [_peer(program), served.job_file, *map(str, [*ports, *arguments])],
        num_ports,
        in_our_environment=False,
    )


def peer_versions() -> dict[str, str]:
    """Returns the versions of those who live in another environment, by their own account."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return {
        program.removesuffix("_server"): subprocess.run(
            [_peer(program), "--version"],
            check=True,
            text=True,
            stdout=subprocess.PIPE,
            env=environment,
        ).stdout.strip()
        for program in ("litserve_server", "mlserver_server")
    }


SERVERS: Mapping[str, Server] = {
    cases.FLOOR_SERVER: _in_our_environment("floor_server", 1),
    cases.OUR_SERVER: Server(_ours, 2, may_pause=False),
    cases.OUR_CACHING_SERVER: Server(
        lambda served, ports: _ours(served, ports, "--cache.enabled"), 2, may_pause=False
    ),
    cases.RAY_SERVER: _in_our_environment("ray_server", 2, *_names(_RAY_NAMES))._replace(
        may_pause=False
    ),
    cases.LITSERVE_SERVER: _of_peer("litserve_server", 1, _NO_BATCHES_S),
    cases.LITSERVE_BATCHED_SERVER: _of_peer("litserve_server", 1, _LITSERVE_BATCH_S),
    cases.MLSERVER_SERVER: _of_peer("mlserver_server", 2, *_names(_MLSERVER_NAMES)),
}


def _grpc(server: str, port: int = 0, metadata: Sequence[tuple[str, str]] = ()) -> Side:
    return Side(server, lambda ports: GrpcCaller(ports[port], metadata), grpc_request, grpc_answer)


def _litserve(server: str) -> Side:
    return Side(server, lambda ports: HttpCaller(ports[0]), base64_request, bytes_answer)


def _oip_json(server: str, port: int) -> Side:
    return Side(server, lambda ports: HttpCaller(ports[port]), oip_json_request, oip_json_answer)


def _mlserver(side: Side, name: str) -> Side:
    """The same side, asking for the model by another name."""
    return side._replace(
        request=lambda job, example: side.request(job._replace(name=name), example)
    )


def _ray_http(path: str) -> Side:
    return Side(
        cases.RAY_SERVER,
        lambda ports: HttpCaller(ports[0]),
        lambda _, example: bytes_request(path, example),
        bytes_answer,
    )


_mlserver_grpc = _grpc(cases.MLSERVER_SERVER, 1)
_mlserver_json = _oip_json(cases.MLSERVER_SERVER, 0)
_ray_grpc = partial(_grpc, cases.RAY_SERVER, 1)

SIDES: Mapping[str, Side] = {
    cases.FLOOR: _grpc(cases.FLOOR_SERVER),
    cases.OURS_GRPC: _grpc(cases.OUR_SERVER),
    cases.OURS_REST: Side(
        cases.OUR_SERVER,
        lambda ports: HttpCaller(ports[1]),
        oip_binary_request,
        oip_binary_answer,
    ),
    cases.OURS_JSON: _oip_json(cases.OUR_SERVER, 1),
    cases.CACHE_HITS: _grpc(cases.OUR_CACHING_SERVER),
    cases.CACHE_MISSES: _grpc(cases.OUR_CACHING_SERVER)._replace(never_again=True),
    cases.RAY_GRPC: _ray_grpc([("application", "single")]),
    cases.RAY_GRPC + cases.BATCHED: _ray_grpc([("application", "batched")]),
    cases.RAY_HTTP: _ray_http("/single"),
    cases.RAY_HTTP + cases.BATCHED: _ray_http("/batched"),
    cases.LITSERVE: _litserve(cases.LITSERVE_SERVER),
    cases.LITSERVE + cases.BATCHED: _litserve(cases.LITSERVE_BATCHED_SERVER),
    cases.MLSERVER_GRPC: _mlserver(_mlserver_grpc, "single"),
    cases.MLSERVER_GRPC + cases.BATCHED: _mlserver(_mlserver_grpc, "batched-grpc"),
    cases.MLSERVER_JSON: _mlserver(_mlserver_json, "single"),
    cases.MLSERVER_JSON + cases.BATCHED: _mlserver(_mlserver_json, "batched-json"),
}
