"""service_config.json, which gives other clients our retries, in gRPC's own hands."""

import json
from pathlib import Path

import grpc
import pytest
from inference import grpc_service_pb2 as oip
from inference import grpc_service_pb2_grpc as oip_grpc

from serving.client.retries import RETRYABLE, RetryPolicy
from serving.client.testing.scripted_server import Refuse, scripted_server

CONFIG = (Path(__file__).parent / "service_config.json").read_text()
LIVE = oip.ServerLiveResponse(live=True)


def seconds(duration: str) -> float:
    """A duration of protobuf's JSON, "0.1s"."""
    return float(duration.removesuffix("s"))


def test_it_says_what_our_clients_do() -> None:
    config = json.loads(CONFIG)
    (method,) = config["methodConfig"]
    retry, policy = method["retryPolicy"], RetryPolicy()
    assert method["name"] == [
        {"service": oip.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name}
    ]
    assert retry["maxAttempts"] == policy.max_attempts
    assert seconds(retry["initialBackoff"]) == policy.initial_backoff_s
    assert seconds(retry["maxBackoff"]) == policy.max_backoff_s
    assert retry["backoffMultiplier"] == policy.backoff_multiplier
    assert retry["retryableStatusCodes"] == [code.name for code in RETRYABLE]
    assert config["retryThrottling"] == {
        "maxTokens": policy.budget_tokens,
        "tokenRatio": policy.token_ratio,
    }


@pytest.mark.parametrize("code", RETRYABLE)
def test_grpc_retries_by_it(code: grpc.StatusCode) -> None:
    refuse = Refuse(code, pushback_ms=["1"])
    with scripted_server({"ServerLive": [refuse, refuse, LIVE]}) as server:
        with grpc.insecure_channel(server.address, [("grpc.service_config", CONFIG)]) as channel:
            stub = oip_grpc.GRPCInferenceServiceStub(channel)
            assert stub.ServerLive(oip.ServerLiveRequest()).live
        assert len(server.received["ServerLive"]) == 3


def test_grpc_does_not_retry_what_says_never() -> None:
    refuse = Refuse(grpc.StatusCode.UNAVAILABLE, pushback_ms=["-1"])
    with scripted_server({"ServerLive": [refuse]}) as server:
        with grpc.insecure_channel(server.address, [("grpc.service_config", CONFIG)]) as channel:
            stub = oip_grpc.GRPCInferenceServiceStub(channel)
            with pytest.raises(grpc.RpcError):
                stub.ServerLive(oip.ServerLiveRequest())
        assert len(server.received["ServerLive"]) == 1
