"""Those who run the gateway see its metrics and why it is not ready, and nothing else."""

from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.exposition import choose_encoder
from prometheus_client.parser import text_string_to_metric_families

from serving.protocols.over_http.admin import AdminServer
from serving.protocols.over_http.config import HttpConfig
from serving.protocols.over_http.testing.running import Running, in_thread
from serving.testing.local_engine import LocalEngine
from serving.testing.local_replica import mean_of_each_row
from serving.testing.served_models import DIGITS

REGISTRY = CollectorRegistry()
Counter("things", "Things that were counted.", registry=REGISTRY).inc(3)


async def page(accept: str) -> tuple[bytes, str]:
    encode, content_type = choose_encoder(accept)
    return encode(REGISTRY), content_type


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    def make() -> tuple[AdminServer, LocalEngine]:
        local = LocalEngine([(DIGITS, mean_of_each_row)])
        return AdminServer(local.engine, page, HttpConfig()), local

    with in_thread(make) as here:
        yield here


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;version=0.0.4", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text;version=1.0.0", "application/openmetrics-text; version=1.0"),
    ],
)
def test_metrics_are_in_the_format_that_is_asked_for(
    server: Running, accept: str | None, content_type: str
) -> None:
    answer = server.ask("GET", "/metrics", headers={"Accept": accept} if accept else None)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith(content_type)
    families = text_string_to_metric_families(answer.body.decode().replace("# EOF\n", ""))
    values = {sample.name: sample.value for family in families for sample in family.samples}
    assert values["things_total"] == 3.0


def test_it_lives_and_is_ready(server: Running) -> None:
    assert server.ask("GET", "/livez").json == {"live": True}
    answer = server.ask("GET", "/readyz")
    assert answer.status == 200
    entry = {"name": "digits", "version": "1.2.3", "state": "READY", "reason": ""}
    assert answer.json == {"ready": True, "reason": "", "models": [entry]}


@pytest.mark.parametrize("path", ["/", "/v2", "/predict", "/metrics/", "/openapi.json", "/debug"])
def test_there_is_nothing_else(server: Running, path: str) -> None:
    answer = server.ask("GET", path)
    assert answer.status == 404
    assert "expected /metrics, /livez, /readyz" in answer.error


def test_nothing_can_be_changed(server: Running) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        answer = server.ask(method, "/livez", b"")
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


def test_what_is_not_ready_says_why(server: Running) -> None:
    """The last of this module: the engine is drained, and no request is refused by that."""
    server.loop.call_soon_threadsafe(server.local.engine.drain)
    answer = server.ask("GET", "/readyz")
    assert answer.status == 503
    assert (answer.json["ready"], answer.json["reason"]) == (False, "the server is shutting down")
    assert server.ask("GET", "/livez").status == 200
