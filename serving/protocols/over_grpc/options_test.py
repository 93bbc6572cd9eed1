"""Clients that ping keep their connections; each option handed to gRPC is one that it reads."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest
from grpc._cython import cygrpc

from serving.protocols.over_grpc import server
from serving.protocols.over_grpc.options import GrpcOptions, channel_options
from serving.testing.grpc_server import (
    WAIT_S,
    RunningGrpc,
    example_images,
    infer_request,
    running_grpc,
    wait_for,
)
from serving.testing.held_channels import HeldChannel
from serving.testing.local_replica import mean_of_each_row
from serving.testing.served_models import DIGITS

PING_S = 0.1
FREQUENT_S = 0.001

# What clients in the wild do, in full.
NIGHTLY_PING_S, NIGHTLY_CALL_S = 11.0, 60.0
READY = grpc.ChannelConnectivity.READY


@contextmanager
def pinging(
    running: RunningGrpc, *, idle: bool, interval_s: float = PING_S
) -> Iterator[grpc.Channel]:
    """A connection that pings for ever; `idle`, without any call too."""
    # A client pings each second at most, and the fourth ping that comes too early ends it.
    client_options = [
        ("grpc.keepalive_time_ms", round(interval_s * 1e3)),
        ("grpc.keepalive_permit_without_calls", int(idle)),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    with grpc.insecure_channel(running.address, client_options) as channel:
        yield channel


def ask(channel: grpc.Channel) -> grpc.Future:
    method = "/inference.GRPCInferenceService/ModelInfer"
    return channel.unary_unary(method).future(infer_request().SerializeToString())


@contextmanager
def watched(channel: grpc.Channel) -> Iterator[list[grpc.ChannelConnectivity]]:
    """The states of a connection from when it is ready."""
    states: list[grpc.ChannelConnectivity] = []
    channel.subscribe(states.append, try_to_connect=True)
    grpc.channel_ready_future(channel).result(WAIT_S)
    del states[: states.index(READY) + 1]
    yield states


@contextmanager
def control_server(missing: str) -> Iterator[RunningGrpc]:
    """A server that lacks one of the two options that let clients ping."""
    interval_s = 3600.0 if missing == "interval" else FREQUENT_S
    limits = GrpcOptions(min_ping_interval_s=interval_s)
    told = dict(channel_options(limits))
    if missing == "idle":
        told["grpc.keepalive_permit_without_calls"] = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "channel_options", lambda _: list(told.items()))
        with running_grpc([(DIGITS, HeldChannel("never"))], options=limits) as running:
            yield running


@pytest.mark.parametrize("missing", ["interval", "idle"])
def test_pings_are_allowed_and_without_either_option_end_connections(missing: str) -> None:
    """A control server lacks one of the two options, and loses what the other one keeps."""
    held = HeldChannel("replica-1")
    with ExitStack() as stack:
        limits = GrpcOptions(min_ping_interval_s=FREQUENT_S)
        running = stack.enter_context(running_grpc([(DIGITS, held)], options=limits))
        control = stack.enter_context(control_server(missing))
        busy = stack.enter_context(pinging(running, idle=False))
        of_idle = stack.enter_context(watched(stack.enter_context(pinging(running, idle=True))))
        lost = stack.enter_context(pinging(control, idle=missing == "idle"))
        of_lost = stack.enter_context(watched(lost))
        answer = ask(busy)
        wait_for(lambda: held.in_flight)
        doomed = ask(lost) if missing == "interval" else None
        wait_for(lambda: of_lost)  # so the others pinged as often, and as early
        assert of_idle == []
        running.call(lambda: held.finish(mean_of_each_row))
        assert answer.result(WAIT_S)
        if doomed is not None:
            with pytest.raises(grpc.RpcError, match="Too many pings") as error:
                doomed.result(WAIT_S)
            assert error.value.code() is grpc.StatusCode.UNAVAILABLE


def test_limit_is_below_the_shortest_interval_of_clients() -> None:
    assert GrpcOptions().min_ping_interval_s < 10


def read_by_grpc(name: str) -> bool:
    """True if the name stands in gRPC's own binary, which takes any other without a word."""
    return name.encode() + b"\0" in Path(cygrpc.__file__).read_bytes()


@pytest.mark.parametrize("name", [name for name, _ in channel_options(GrpcOptions())])
def test_every_option_is_one_that_grpc_reads(name: str) -> None:
    assert read_by_grpc(name)


def test_other_name_is_not_taken_for_an_option() -> None:
    unknown = "grpc.http2.min_recv_ping_interval_without_data_ms"  # as this room once had it
    assert not read_by_grpc(unknown)


def test_times_are_in_milliseconds() -> None:
    told = dict(channel_options(GrpcOptions(max_connection_age_s=1.5, keepalive_s=0.25)))
    assert told["grpc.max_connection_age_ms"] == 1500
    assert told["grpc.keepalive_time_ms"] == 250


def test_nightly_a_call_of_a_minute_outlasts_its_clients_pings() -> None:
    held = HeldChannel("replica-1")
    with ExitStack() as stack:
        running = stack.enter_context(running_grpc([(DIGITS, held)]))
        busy = stack.enter_context(pinging(running, idle=False, interval_s=NIGHTLY_PING_S))
        idle = stack.enter_context(pinging(running, idle=True, interval_s=NIGHTLY_PING_S))
        of_idle = stack.enter_context(watched(idle))
        answer = ask(busy)
        wait_for(lambda: held.in_flight)
        threading.Event().wait(NIGHTLY_CALL_S - 1)  # the server's own limit is a minute
        running.call(lambda: held.finish(mean_of_each_row))
        assert answer.result(WAIT_S)
        assert of_idle == []


def test_message_limit_is_exact() -> None:
    images = example_images(8)
    limit = len(infer_request(images).SerializeToString())
    options = GrpcOptions(max_message_bytes=limit)
    with running_grpc(options=options) as running, running.stub() as stub:
        assert stub.ModelInfer(infer_request(images)).outputs
        with pytest.raises(grpc.RpcError) as error:
            stub.ModelInfer(infer_request(images, model_version="1"))
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert stub.ModelInfer(infer_request(images)).outputs
