"""Health is the truth of the engine, for the server, the service and every model."""

from collections.abc import Iterator
from dataclasses import replace

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.protocols.over_grpc.methods import SERVICE
from serving.testing.grpc_server import RunningGrpc, running_grpc
from serving.testing.local_replica import mean_of_each_row
from serving.testing.served_models import DIGITS

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


@pytest.fixture(scope="module")
def running() -> Iterator[RunningGrpc]:
    """One model, and one whose replicas are gone."""
    dead = replace(DIGITS, name="dead")
    models = [(model, mean_of_each_row) for model in (DIGITS, dead)]
    with running_grpc(models) as running:
        running.call(running.local.channels["dead", "1.2.3"].change)
        yield running


def health_of(running: RunningGrpc, service: str) -> int:
    with running.channel() as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        return check(health_pb2.HealthCheckRequest(service=service)).status


def test_health_is_that_of_each_model(running: RunningGrpc) -> None:
    assert health_of(running, "digits") == SERVING
    assert health_of(running, "dead") == NOT_SERVING
    assert health_of(running, "") == health_of(running, SERVICE) == NOT_SERVING


def test_health_is_listed(running: RunningGrpc) -> None:
    with running.channel() as channel:
        listed = health_pb2_grpc.HealthStub(channel).List(health_pb2.HealthListRequest())
    assert {name: response.status for name, response in listed.statuses.items()} == {
        "": NOT_SERVING,
        SERVICE: NOT_SERVING,
        "digits": SERVING,
        "dead": NOT_SERVING,
    }


def test_unknown_service_has_no_health(running: RunningGrpc) -> None:
    with pytest.raises(grpc.RpcError) as error:
        health_of(running, "letters")
    assert error.value.code() is grpc.StatusCode.NOT_FOUND
    assert error.value.details().startswith("unknown service 'letters'; known here: ''")


@pytest.mark.parametrize("service", ["", SERVICE, "digits"])
def test_watch_follows_replicas(service: str) -> None:
    with running_grpc([(DIGITS, mean_of_each_row)]) as running, running.channel() as channel:
        replicas = running.local.channels["digits", "1.2.3"]
        alive = list(replicas.connected)
        watch = health_pb2_grpc.HealthStub(channel).Watch
        statuses = watch(health_pb2.HealthCheckRequest(service=service))
        assert next(statuses).status == SERVING
        running.call(replicas.change)
        assert next(statuses).status == NOT_SERVING
        running.call(lambda: replicas.change(*alive))
        assert next(statuses).status == SERVING
        running.call(running.local.engine.drain)
        assert next(statuses).status == NOT_SERVING


def test_watch_of_a_model_that_comes_later() -> None:
    with running_grpc([]) as running, running.channel() as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch
        statuses = watch(health_pb2.HealthCheckRequest(service="digits"))
        assert next(statuses).status == UNKNOWN
        running.call(lambda: running.local.serve(DIGITS, mean_of_each_row))
        assert next(statuses).status == SERVING
