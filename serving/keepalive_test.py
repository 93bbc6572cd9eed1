"""Clients that ping keep their calls; each option handed to gRPC is one that it reads."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc._cython import cygrpc
from inference import grpc_service_pb2 as oip
from inference import grpc_service_pb2_grpc as oip_grpc

from serving import server
from serving.example import example_images, running_server

# A client pings each second at most, and the fourth ping that comes too early ends its connection.
CALL_S = 6.0
# What the issue was about, in full.
PING_S, LONG_CALL_S = 11.0, 60.0


async def first_ten_pixels(batch: np.ndarray) -> np.ndarray:
    return batch.reshape(len(batch), -1)[:, :10]


@contextmanager
def pinging(address: str, interval_s: float, *, idle: bool = False) -> Iterator[grpc.Channel]:
    """A connection that pings for ever; `idle`, without any call too."""
    options = [
        ("grpc.keepalive_time_ms", round(interval_s * 1e3)),
        ("grpc.keepalive_permit_without_calls", int(idle)),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    with grpc.insecure_channel(address, options) as channel:
        yield channel


def ask(channel: grpc.Channel) -> grpc.Future:
    images = example_images(1)
    request = oip.ModelInferRequest(model_name="digits", raw_input_contents=[images.tobytes()])
    request.inputs.add(name="image", datatype="FP32", shape=images.shape)
    return oip_grpc.GRPCInferenceServiceStub(channel).ModelInfer.future(request)


def check_pings_are_allowed(interval_s: float, call_s: float) -> None:
    """A call gets its answer, and an idle connection stays, while both ping."""

    async def predict(batch: np.ndarray) -> np.ndarray:
        await asyncio.sleep(call_s)
        return await first_ten_pixels(batch)

    states: list[grpc.ChannelConnectivity] = []
    with (
        running_server(predict, timeout_s=2 * call_s) as (address, _, _),
        pinging(address, interval_s, idle=True) as idle,
        pinging(address, interval_s) as busy,
    ):
        idle.subscribe(states.append, try_to_connect=True)
        grpc.channel_ready_future(idle).result()
        response = ask(busy).result()
        lost = states[states.index(grpc.ChannelConnectivity.READY) + 1 :]
    assert response.outputs[0].shape == [1, 10]
    assert not lost


def test_frequent_pings_are_allowed_within_the_limit_and_beyond_it_lose_the_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The one shows that the limit is one that gRPC reads, and that CALL_S is long enough for both.
    monkeypatch.setattr(server, "MIN_PING_INTERVAL_MS", 3_600_000)

    async def never(batch: np.ndarray) -> np.ndarray:
        await asyncio.Event().wait()
        return batch

    with running_server(never) as (address, _, _), pinging(address, 0.1) as channel:
        lost = ask(channel)
        monkeypatch.setattr(server, "MIN_PING_INTERVAL_MS", 1)
        check_pings_are_allowed(interval_s=0.1, call_s=CALL_S)
        with pytest.raises(grpc.RpcError, match="Too many pings") as error:
            lost.result()
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE


def test_limit_is_below_the_shortest_interval_of_clients() -> None:
    assert server.MIN_PING_INTERVAL_MS < 10_000


def read_by_grpc(name: str) -> bool:
    """True if the name stands in gRPC's own binary, which takes any other without a word."""
    return name.encode() + b"\0" in Path(cygrpc.__file__).read_bytes()


def options_of_this_room() -> set[str]:
    """Names of all channel and server options in the sources, the tests' too."""
    sources = Path(__file__).parent.glob("*.py")
    return {
        name for path in sources for name in re.findall(r'\("(grpc\.[\w.]+)"', path.read_text())
    }


def test_every_option_is_one_that_grpc_reads() -> None:
    options = options_of_this_room()
    assert {"grpc.http2.min_ping_interval_without_data_ms", "grpc.enable_http_proxy"} <= options
    assert [name for name in options if not read_by_grpc(name)] == []


def test_other_name_is_not_taken_for_an_option() -> None:
    unknown = "grpc.http2.min_recv_ping_interval_without_data_ms"  # as this room once had it
    assert not read_by_grpc(unknown)


def test_nightly_ping_every_11_s_is_answered_after_60_s() -> None:
    check_pings_are_allowed(PING_S, LONG_CALL_S)
