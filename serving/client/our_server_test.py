"""Our clients against our own servers, gRPC and HTTP, over models that are checked by hand."""

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image

from serving.client.encoding import encode_request
from serving.client.errors import InferenceError
from serving.client.results import InferResult
from serving.client.sync import InferenceClient
from serving.client.testing.both_clients import CLIENTS, Connect, FakeTime
from serving.client.testing.command_line import only_error, run
from serving.core.signature import DTYPES
from serving.protocols.over_http.testing.running import running
from serving.testing.example import GREY_8X8
from serving.testing.grpc_server import RunningGrpc, running_grpc
from serving.testing.local_replica import mean_of_each_row
from serving.testing.served_models import CLASS_NAMES, DIGITS

both = pytest.mark.parametrize("connect", CLIENTS)

# The example adds to the mean of an image the number of each class.
IMAGES = np.arange(128, dtype=np.float32).reshape(2, 8, 8, 1) / 128
LOGITS = IMAGES.reshape(2, -1).mean(axis=1, keepdims=True) + np.arange(10)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningGrpc]:
    with running_grpc() as server:
        yield server


@both
@pytest.mark.parametrize("datatype", DTYPES)
def test_every_datatype_goes_there_and_back(
    connect: Connect, server: RunningGrpc, datatype: str
) -> None:
    values = np.array([[0, 1, 1], [1, 0, 1]]).astype(DTYPES[datatype])
    with connect(server.address) as client:
        result = client.infer(f"echo_{datatype.lower()}", {"x": values})
    assert result["y"].dtype == values.dtype
    np.testing.assert_array_equal(result["y"], values)


@both
def test_several_inputs_and_outputs(connect: Connect, server: RunningGrpc) -> None:
    inputs = {"a": np.ones((3, 2), np.float32), "b": np.arange(3)}
    with connect(server.address) as client:
        own_id = [("x-request-id", "mine")]
        result = client.infer("pair", inputs, request_id="7", priority=1, metadata=own_id)
        lone = client.infer("pair", inputs, version="1.2.3", outputs=["double"])
    assert result["double"].tolist() == [0, 2, 4]
    assert result["sum"].tolist() == [[1, 1], [2, 2], [3, 3]]
    assert (result.model, result.version, result.id) == ("pair", "1.2.3", "7")
    assert result.trailing["x-request-id"] == "mine"
    assert list(lone.outputs) == ["double"]


@both
def test_what_is_wrong_is_refused_once_and_in_its_words(
    connect: Connect, server: RunningGrpc
) -> None:
    with connect(server.address, FakeTime()) as client:
        with pytest.raises(InferenceError, match="expected \\[-1, 8, 8, 1\\]") as error:
            client.infer("digits", {"image": IMAGES[:, :4]})
        assert (error.value.code, error.value.attempts) == (grpc.StatusCode.INVALID_ARGUMENT, 1)
        with pytest.raises(InferenceError, match="9.9.9") as error:
            client.infer("digits", {"image": IMAGES}, version="9.9.9")
        assert error.value.code is grpc.StatusCode.NOT_FOUND


@both
def test_states_and_the_index(connect: Connect, server: RunningGrpc) -> None:
    with connect(server.address) as client:
        assert client.live() and client.ready() and client.ready("digits")
        assert client.server_metadata().name == "hpc-gateway"
        assert client.model_metadata("digits").inputs[0].name == "image"
        states = {model.name: model.state for model in client.repository_index()}
    assert states["digits"] == "READY"


def test_a_stream_answers_each_request_or_says_why_not(server: RunningGrpc) -> None:
    requests = [
        encode_request("digits", {"image": images}, request_id=str(number))
        for number, images in enumerate([IMAGES, IMAGES[:, :4], IMAGES[:1]])
    ]
    with InferenceClient(server.address) as client:
        first, second, third = client.stream(requests)
    assert isinstance(first, InferResult)
    assert isinstance(second, InferenceError)
    assert isinstance(third, InferResult)
    assert (first.id, second.request_id, third.id) == ("0", "1", "2")
    np.testing.assert_allclose(first["logits"], LOGITS, rtol=1e-6)  # sums of 64 float32
    np.testing.assert_allclose(third["logits"], LOGITS[:1], rtol=1e-6)
    assert "expected [-1, 8, 8, 1]" in str(second)


def test_the_command_line_tells_classes_by_name(server: RunningGrpc, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", IMAGES)
    common = ["--address", server.address, "--model", "digits"]
    result = run("infer", *common, "--input", tmp_path / "x.npy", "--top-k", "2")
    rows = [line.split() for line in result.stdout.splitlines()]
    # The largest logit is that of the last class, for any image.
    assert [row[1:4] for row in rows[1:]] == [
        [example, CLASS_NAMES[index], str(index)] for example in "01" for index in (9, 8)
    ]
    result = run("infer", *common, "--input", tmp_path / "x.npy")
    assert result.stdout.splitlines()[-1] == "classes 9 9"
    load = run("load", *common, "--duration-s", "0.2", "--warm-up-s", "0", "--json")
    (row,) = json.loads(load.stdout)["loads"]
    assert row["statuses"]["answered"] > 0
    assert sum(row["statuses"].values()) == row["statuses"]["answered"]


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
def test_the_command_line_sends_pictures(file_format: str, tmp_path: Path) -> None:
    model = replace(DIGITS, image_preprocessing=GREY_8X8)
    content = io.BytesIO()
    Image.new("L", (8, 8), 255).save(content, file_format)
    (tmp_path / "picture").write_bytes(content.getvalue())
    with running((model, mean_of_each_row)) as http:
        arguments = ["--image", tmp_path / "picture", "--rest-address", f"{http.host}:{http.port}"]
        drawn = run("infer", *arguments, "--top-k", "2")
        facts = run("infer", *arguments, "--model", "digits", "--json")
        unknown = run("infer", *arguments, "--model", "other")
    assert drawn.exit_code == 0, drawn.output
    rows = [line.split() for line in drawn.stdout.splitlines()]
    assert rows[0] == ["digits", "1.2.3"]
    assert [row[:2] for row in rows[2:]] == [["0", "nine"], ["0", "eight"]]
    (prediction,) = json.loads(facts.stdout)["predictions"]
    assert prediction["class"] == "nine"
    assert "other" in only_error(unknown, 2)


def test_ports_that_were_confused_are_told_apart(server: RunningGrpc, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", IMAGES)
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with running() as http:
        rest = f"{http.host}:{http.port}"
        arguments = ["--model", "digits", "--input", tmp_path / "x.npy"]
        error = only_error(run("infer", "--address", rest, *arguments), 1)
    assert f"{rest}: it speaks HTTP/1 and no gRPC; is that the port of REST?" in error
    error = only_error(
        run("infer", "--rest-address", server.address, "--image", tmp_path / "x.png"), 1
    )
    assert error == f"{server.address}: no REST there; is that the port of gRPC?"
    error = only_error(run("infer", "--address", server.address, "--image", tmp_path / "x.png"), 2)
    assert error == "a picture goes by REST; give --rest-address in place of --address"
