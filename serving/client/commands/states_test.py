"""`metadata`, `ready` and `index` against real servers."""

import json

import grpc
import pytest
from inference import grpc_service_pb2 as oip

from serving.client.testing.command_line import free_address, only_error, run
from serving.client.testing.echo_server import echo_server
from serving.client.testing.scripted_server import Refuse, Step, scripted_server

IMAGE = {"name": "image", "datatype": "FP32", "shape": [-1, 2]}


def test_metadata_prints_what_a_server_and_a_model_say() -> None:
    with echo_server([IMAGE], {"trained_in": "flax"}) as address:
        server = run("metadata", "--address", address)
        model = run("metadata", "--address", address, "--model", "echo")
        facts = run("metadata", "--address", address, "--model", "echo", "--json")
    assert "echo-server" in server.stdout
    rows = [" ".join(line.split()) for line in model.stdout.splitlines()]
    assert "echo 1.2.3 echo" in rows
    assert "input image FP32 [-1, 2]" in rows
    assert "trained_in flax" in rows
    assert json.loads(facts.stdout)["inputs"][0]["datatype"] == "FP32"


def test_index_lists_states_and_reasons() -> None:
    with echo_server() as address:
        all_models = run("index", "--address", address)
        ready = run("index", "--address", address, "--ready", "--json")
    assert "no replica" in all_models.stdout
    assert [model["name"] for model in json.loads(ready.stdout)] == ["echo"]
    with scripted_server({"RepositoryIndex": [oip.RepositoryIndexResponse()]}) as server:
        assert run("index", "--address", server.address).stdout == "the server has no models\n"


def test_ready_is_an_exit_status_with_a_reason() -> None:
    states = oip.RepositoryIndexResponse()
    states.models.add(name="m", version="1", state="LOADING", reason="warming\n")
    states.models.add(name="n", version="1", state="READY")
    ready = [oip.ServerReadyResponse(ready=True)]
    with scripted_server({"ServerReady": ready}) as server:
        result = run("ready", "--address", server.address)
        assert (result.exit_code, result.stdout) == (0, "ready\n")
    unready: dict[str, list[Step]] = {"ModelReady": [oip.ModelReadyResponse(ready=False)]}
    with scripted_server({**unready, "RepositoryIndex": [states]}) as server:
        result = run("ready", "--address", server.address, "--model", "m")
        assert (result.exit_code, result.stdout) == (
            1,
            "not ready: m 1 is LOADING: warming\\n\n",
        )
    with scripted_server(unready) as server:  # without an index
        result = run("ready", "--address", server.address, "--model", "m")
        assert (result.exit_code, result.stdout) == (1, "not ready\n")


def test_ready_waits_for_a_server_that_is_coming_up() -> None:
    never = Refuse(grpc.StatusCode.UNAVAILABLE, pushback_ms=["-1"])
    script: list[Step] = [
        never,
        oip.ServerReadyResponse(ready=False),
        never,
        oip.ServerReadyResponse(ready=True),
    ]
    with scripted_server({"ServerReady": script}) as server:
        result = run("ready", "--address", server.address, "--wait", "600")
        assert (result.exit_code, result.stdout) == (0, "ready\n")
        assert len(server.received["ServerReady"]) == 4


def test_ready_waits_no_longer_than_it_was_told() -> None:
    address = free_address()
    result = run("ready", "--address", address, "--wait", "0.01", "--timeout-s", "0.01")
    assert address in only_error(result, 1)


@pytest.mark.parametrize("command", ["metadata", "ready"])
def test_empty_model_is_not_the_server(command: str) -> None:
    with echo_server() as address:
        result = run(command, "--address", address, "--model", "")
    assert only_error(result, 2) == "unknown model '' (NOT_FOUND)"


@pytest.mark.parametrize("command", ["metadata", "ready", "index"])
def test_bad_options_and_absent_servers_are_one_line(command: str) -> None:
    assert only_error(run(command, "--address", "nonsense"), 2).startswith("address is 'nonsense'")
    assert only_error(run(command, "--timeout-s", "nan"), 2).startswith("timeout is nan s")
    address = free_address()
    error = only_error(run(command, "--address", address), 1)
    assert error.startswith(f"{address}: cannot connect: Connection refused (UNAVAILABLE")
