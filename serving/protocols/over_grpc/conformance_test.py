"""Published clients that are not ours understand the server, and the wire is the same as theirs.

Each lives in another interpreter process with other packages; the commands that run them are in
the environment.
"""

import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from inference import grpc_service_pb2 as oip

from serving.testing.grpc_server import RunningGrpc, example_images, running_grpc
from serving.testing.held_channels import HeldChannel
from serving.testing.served_models import ALL, CLASS_NAMES, DIGITS

BATCH = 3
PATIENCE_S = 120


class Control:
    """Lets clients load and unload, and keeps what they asked for."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    async def load(self, name: str) -> None:
        self.told.append(("load", name))

    async def unload(self, name: str) -> None:
        self.told.append(("unload", name))


@pytest.fixture(scope="module")
def control() -> Control:
    return Control()


@pytest.fixture(scope="module")
def running(control: Control) -> Iterator[RunningGrpc]:
    slow = replace(DIGITS, name="slow")
    with running_grpc([*ALL, (slow, HeldChannel("never"))], control=control) as running:
        yield running


def drive(driver: str, *arguments: object) -> Any:
    """What a driver printed."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    result = subprocess.run(
        [*shlex.split(os.environ[driver]), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=environment,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "images.npy"
    np.save(path, example_images(BATCH))
    return path


@pytest.fixture(scope="module", params=["sync", "aio"])
def seen(request: pytest.FixtureRequest, running: RunningGrpc, images: Path) -> Any:
    """What one of the two clients of Triton saw."""
    return drive("TRITON_DRIVER", request.param, running.address, images)


def expected_logits(batch: np.ndarray) -> np.ndarray:
    return batch.mean(axis=(1, 2, 3))[:, np.newaxis] + np.arange(10)


@pytest.mark.parametrize("state", ["live", "ready", "model_ready"])
def test_state(seen: Any, state: str) -> None:
    assert seen[state] is True


def test_metadata(seen: Any) -> None:
    assert seen["server_metadata"]["name"] == "hpc-gateway"
    assert "classification" in seen["server_metadata"]["extensions"]
    metadata = seen["model_metadata"]
    assert (metadata["name"], metadata["versions"]) == ("digits", ["1.2.3"])
    image = {"name": "image", "datatype": "FP32", "shape": ["-1", "8", "8", "1"]}
    assert metadata["inputs"] == [image]
    assert metadata["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": ["-1", "10"]}]


def test_repository(seen: Any, control: Control) -> None:
    assert {
        m["name"]: (m["version"], m["state"]) for m in seen["index"]["models"]
    } == dict.fromkeys([*[model.name for model, _ in ALL], "slow"], ("1.2.3", "READY"))
    assert control.told[-2:] == [("load", "digits"), ("unload", "digits")]


def test_answer_is_the_models(seen: Any) -> None:
    np.testing.assert_allclose(seen["logits"], expected_logits(example_images(BATCH)), rtol=1e-6)
    response = seen["response"]
    assert (response["model_name"], response["model_version"]) == ("digits", "1.2.3")
    assert response["id"] == "request-7"
    assert response["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": ["3", "10"]}]


def test_all_that_was_said_was_heard(seen: Any, running: RunningGrpc) -> None:
    (outcome,) = [
        o for o in running.local.recorder.outcomes[-100:] if o.call.request_id == "trace-7"
    ][-1:]
    assert (outcome.call.priority, outcome.call.version) == (1, "1.2.3")
    assert 0 < outcome.call.deadline - outcome.started <= 30.0


def test_classes(seen: Any) -> None:
    logits = expected_logits(example_images(BATCH))
    for row, classes in zip(logits, seen["classes"], strict=True):
        parts = [string.split(":") for string in classes]
        best = np.argsort(row)[::-1][:3]
        assert [(int(index), label) for _, index, label in parts] == [
            (index, CLASS_NAMES[index]) for index in best
        ]
        np.testing.assert_allclose([float(value) for value, _, _ in parts], row[best], rtol=1e-6)


def test_every_datatype_travels_both_ways(seen: Any) -> None:
    assert seen["echoes"] == {
        model.name: [[0.0, 1.0, 1.0]] for model, _ in ALL if model.name.startswith("echo_")
    }


@pytest.mark.parametrize(
    ("case", "status", "message"),
    [
        ("config", "UNIMPLEMENTED", "Method not found!"),
        ("unknown", "NOT_FOUND", "unknown model 'letters'; served here: 'digits'"),
        ("shape", "INVALID_ARGUMENT", "input 'image' has shape [3, 8, 8]; expected [-1, 8, 8, 1]"),
        ("sequence", "INVALID_ARGUMENT", "parameter 'sequence_"),
        ("client_timeout", "DEADLINE_EXCEEDED", ""),
        ("timeout", "DEADLINE_EXCEEDED", "the request was not answered in time"),
        ("cancelled", "CANCELLED", ""),
    ],
)
def test_error_has_its_status(seen: Any, case: str, status: str, message: str) -> None:
    assert seen[case]["status"] == f"StatusCode.{status}"
    assert seen[case]["message"].startswith(message)


def test_stream(seen: Any) -> None:
    images = example_images(BATCH)
    first, second, third = seen["stream"]["logits"]
    np.testing.assert_allclose(first, expected_logits(images), rtol=1e-6)
    assert second is None
    np.testing.assert_allclose(third, expected_logits(images[:1]), rtol=1e-6)
    assert seen["stream"]["ids"] == ["0", None, "2"]
    assert seen["stream"]["errors"] == [
        None,
        "input 'image' has shape [3, 8, 8]; expected [-1, 8, 8, 1]",
        None,
    ]
    assert seen["stream"]["cancelled"]["status"] == "StatusCode.CANCELLED"


def test_nothing_is_left_running(seen: Any, running: RunningGrpc) -> None:
    running.run(running.server.none_running())
    assert running.local.admission.requests == 0


@pytest.fixture(scope="module")
def kserve(running: RunningGrpc, images: Path) -> Any:
    """What KServe's client saw."""
    return drive("KSERVE_DRIVER", running.address, images)


@pytest.mark.parametrize("answer", ["raw", "typed", "chosen"])
def test_kserve_gets_the_models_answer(kserve: Any, answer: str) -> None:
    expected = expected_logits(example_images(BATCH))
    np.testing.assert_allclose(kserve[answer], expected, rtol=1e-6)


def test_kserve_sees_the_state_and_errors(kserve: Any) -> None:
    assert (kserve["live"], kserve["ready"], kserve["model_ready"]) == (True, True, True)
    assert kserve["id"] == "request-7"
    assert kserve["error"] == [
        "StatusCode.INVALID_ARGUMENT",
        "input 'image' has shape [3, 8, 8]; expected [-1, 8, 8, 1]",
    ]


def test_wire_is_that_of_the_published_client() -> None:
    theirs, their_methods = map(dict, drive("TRITON_DRIVER", "descriptors"))
    file = FileDescriptorProto.FromString(oip.DESCRIPTOR.serialized_pb)
    ours = dict(entry for m in file.message_type for entry in of_message(file.package, m))
    # The Open Inference Protocol has free-form facts of a model, and Triton's has not.
    properties = "inference.ModelMetadataResponse"
    del ours[f"{properties}.PropertiesEntry"]
    ours[properties] = [field for field in ours[properties] if field[1] != "properties"]
    assert {name: theirs[name] for name in ours} == ours
    (service,) = file.service
    our_methods = {
        f"{file.package}.{service.name}/{method.name}": [
            method.input_type,
            method.output_type,
            method.client_streaming,
            method.server_streaming,
        ]
        for method in service.method
    }
    assert {name: their_methods[name] for name in our_methods} == our_methods
    assert len(our_methods) == 10


def of_message(prefix: str, message: Any) -> Iterator[tuple[str, list[Any]]]:
    """A message and those in it, each by name with its fields."""
    name = f"{prefix}.{message.name}"
    oneofs = [oneof.name for oneof in message.oneof_decl]
    fields = sorted(
        [
            field.number,
            field.name,
            field.type,
            field.label,
            field.type_name,
            oneofs[field.oneof_index] if field.HasField("oneof_index") else "",
        ]
        for field in message.field
    )
    yield name, fields
    for inner in message.nested_type:
        yield from of_message(name, inner)
