"""What the server holds in memory is bounded, and let go at once.

The server has a process of its own.
"""

from collections.abc import Callable
from contextlib import ExitStack

import grpc
import pytest
from inference import grpc_service_pb2 as oip

from serving.testing.grpc_process import Measured, grpc_process
from serving.testing.grpc_server import wait_for
from serving.testing.rude_client import INFER

MIB = 2**20
UPLOADS = 10
UPLOAD_BYTES = 60 * MIB
ADMITTED = 2


def channel_to(server: Measured) -> grpc.Channel:
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
    return grpc.insecure_channel(server.address, options)


def large_request(num_bytes: int) -> bytes:
    request = oip.ModelInferRequest(model_name="large", raw_input_contents=[bytes(num_bytes)])
    request.inputs.add(name="x", datatype="UINT8", shape=[1, num_bytes])
    return request.SerializeToString()


def test_uploads_at_once_are_bounded_and_let_go(
    record_property: Callable[[str, object], None],
) -> None:
    """Ten uploads of 60 MiB, of which a budget of 128 MiB lets two in; nobody is ever answered."""
    data = large_request(UPLOAD_BYTES)
    with (
        grpc_process(UPLOAD_BYTES, 64 * MIB, max_bytes=128 * MIB) as server,
        ExitStack() as stack,
    ):
        before = server.kept_bytes()
        channels = [stack.enter_context(channel_to(server)) for _ in range(UPLOADS)]
        calls = [channel.unary_unary(INFER).future(data) for channel in channels]
        wait_for(lambda: sum(call.done() for call in calls) == UPLOADS - ADMITTED)
        wait_for(lambda: server.requests() == ADMITTED)
        codes = {call.code() for call in calls if call.done()}
        assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        peak = server.peak_bytes() - before
        held = server.kept_bytes() - before
        for call in calls:
            call.cancel()
        wait_for(lambda: server.kept_bytes() - before < UPLOAD_BYTES)
    for name, value in (("peak", peak), ("held", held)):
        record_property(f"{name} MiB", value // MIB)
    # gRPC holds what arrives, and while it hands over one request, that thrice.
    assert peak < (UPLOADS + 3 + 2) * UPLOAD_BYTES
    # The two that were let in, once each.
    assert held < (ADMITTED + 1) * UPLOAD_BYTES


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_a_small_message_that_unpacks_to_a_large_one_is_refused(
    compression: grpc.Compression,
) -> None:
    with grpc_process(64, MIB, max_bytes=MIB) as server, channel_to(server) as channel:
        before = server.peak_bytes()
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary(INFER)(bytes(200 * MIB), compression=compression)
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert server.peak_bytes() - before < 20 * MIB


def test_many_small_fields_take_little_memory() -> None:
    """Two bytes can make an element of a hundred bytes, if they are read."""
    names = oip.ModelInferRequest(model_name="large").SerializeToString()
    hostile = [
        names + b"\x2a\x00" * (8 * MIB),  # empty inputs
        names + b"\x3a\x00" * (8 * MIB),  # empty raw contents
        names + b"\x22\x00" * (8 * MIB),  # empty parameters
    ]
    with grpc_process(64, 64 * MIB, max_bytes=MIB) as server, channel_to(server) as channel:
        for data in hostile:
            with pytest.raises(grpc.RpcError) as error:
                channel.unary_unary(INFER)(data)
            assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "too many fields" in error.value.details()
        assert server.peak_bytes() < 300 * MIB
