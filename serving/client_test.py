"""The Python client and its command against the real server."""

import io
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from inference import grpc_service_pb2 as oip
from inference import grpc_service_pb2_grpc as oip_grpc
from typer.testing import CliRunner, Result

from serving.client import InferenceClient, InferenceError, app
from serving.example import example_images, running_server


async def brightest_column(batch: np.ndarray) -> np.ndarray:
    """Logits of a 10-class model whose class is the column with the most light."""
    columns = batch.sum(axis=(1, 3))
    return np.pad(columns, ((0, 0), (0, 2))).astype(np.float32)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with running_server(brightest_column) as (address, _, _):
        yield address


@pytest.fixture
def client(address: str) -> Iterator[InferenceClient]:
    with InferenceClient(address, timeout_s=10.0) as client:
        yield client


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_infer_returns_arrays_by_name(client: InferenceClient) -> None:
    outputs = client.infer("digits", {"image": example_images(5)})
    assert outputs.keys() == {"logits"}
    expected = example_images(5).sum(axis=(1, 3))
    np.testing.assert_allclose(outputs["logits"][:, :8], expected, rtol=1e-6)  # float32 sums


def test_any_memory_layout_is_sent_right(client: InferenceClient) -> None:
    images = example_images(4)
    expected = client.infer("digits", {"image": images[::2, ::-1]})["logits"]
    strided = np.asfortranarray(images)[::2, ::-1]
    big_endian = images[::2, ::-1].astype(">f4")
    for same in (strided, big_endian):
        np.testing.assert_array_equal(client.infer("digits", {"image": same})["logits"], expected)


def test_version_and_outputs_are_passed_on(client: InferenceClient) -> None:
    outputs = client.infer(
        "digits", {"image": example_images(1)}, version="1.2.3", outputs=["logits"]
    )
    assert outputs["logits"].shape == (1, 10)
    with pytest.raises(InferenceError, match="unknown output 'boxes'"):
        client.infer("digits", {"image": example_images(1)}, outputs=["boxes"])
    with pytest.raises(InferenceError, match=r"unknown version '9\.9\.9'"):
        client.infer("digits", {"image": example_images(1)}, version="9.9.9")


def test_states_and_metadata(client: InferenceClient) -> None:
    assert client.live()
    assert client.ready()
    assert client.ready("digits", "1.2.3")
    assert client.server_metadata().name == "hpc-gateway"
    assert client.model_metadata("digits").versions == ["1.2.3"]


def test_refusal_carries_code_and_signature(client: InferenceClient) -> None:
    with pytest.raises(InferenceError, match="Expected inputs: image FP32") as error:
        client.infer("digits", {"image": np.zeros((1, 28, 28, 1), np.float32)})
    assert error.value.code is grpc.StatusCode.INVALID_ARGUMENT


def test_unknown_dtype_is_refused_before_sending(client: InferenceClient) -> None:
    with pytest.raises(TypeError, match="input 'image' is complex128; expected one of BOOL"):
        client.infer("digits", {"image": np.zeros(1, complex)})


class Canned(oip_grpc.GRPCInferenceServiceServicer):
    """A server of somebody else, which answers every request the same."""

    def __init__(self, reply: oip.ModelInferResponse, num_inputs: int) -> None:
        self._reply = reply
        self._num_inputs = num_inputs

    def ModelMetadata(  # noqa: N802 - the protocol names the methods
        self, request: oip.ModelMetadataRequest, context: grpc.ServicerContext
    ) -> oip.ModelMetadataResponse:
        inputs = [{"name": f"input{index}"} for index in range(self._num_inputs)]
        return oip.ModelMetadataResponse(inputs=inputs)

    def ModelInfer(  # noqa: N802
        self, request: oip.ModelInferRequest, context: grpc.ServicerContext
    ) -> oip.ModelInferResponse:
        return self._reply


@contextmanager
def canned(reply: oip.ModelInferResponse, num_inputs: int = 1) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(1))
    oip_grpc.add_GRPCInferenceServiceServicer_to_server(Canned(reply, num_inputs), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def typed_reply() -> oip.ModelInferResponse:
    reply = oip.ModelInferResponse()
    tensor = reply.outputs.add(name="OUTPUT0", datatype="FP32", shape=[1, 3])
    tensor.contents.fp32_contents.extend([0.5, 1.0, -2.0])
    return reply


def test_typed_outputs_are_read() -> None:
    with canned(typed_reply()) as address, InferenceClient(address) as client:
        outputs = client.infer("model", {"INPUT0": np.zeros((1, 2), np.float32)})
    assert outputs["OUTPUT0"].dtype == np.float32
    assert outputs["OUTPUT0"].tolist() == [[0.5, 1.0, -2.0]]


def test_reply_that_breaks_the_protocol_is_an_inference_error(tmp_path: Path) -> None:
    reply = typed_reply()
    reply.outputs[0].shape[:] = [1, 4]
    message = "the reply breaks the protocol: output 'OUTPUT0' has 3 elements; its shape makes 4"
    np.save(tmp_path / "x.npy", np.zeros(1, np.float32))
    with canned(reply) as address:
        with InferenceClient(address) as client, pytest.raises(InferenceError) as error:
            client.infer("model", {"INPUT0": np.zeros((1, 2), np.float32)})
        result = run("infer", "--address", address, "--model", "m", "--input", tmp_path / "x.npy")
    assert error.value.code is grpc.StatusCode.INTERNAL
    assert str(error.value) == f"{address}: {message}"
    assert (result.exit_code, result.stderr) == (1, f"error: {address}: {message}\n")


ADDRESSES = ["127.0.0.1:8001", "localhost:1", "[::1]:65535", "gateway.example.com:8001"]
OTHER_ADDRESSES = ["", "localhost", ":8001", "a b:8001", "::1:8001", "http://127.0.0.1:8001"]
OTHER_ADDRESSES += [
    f"127.0.0.1:{port}"
    for port in ["", "0", "-1", "65536", "http", "8001\n", "8001:8002", "9" * 5000, "\uff18\uff10"]
]
OTHER_TIMEOUTS = [0.0, -1.0, float("nan"), float("inf"), 1e300]


@pytest.mark.parametrize("address", ADDRESSES)
def test_address_is_taken(address: str) -> None:
    InferenceClient(address).close()


@pytest.mark.parametrize("address", OTHER_ADDRESSES)
def test_other_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="address is .*; expected host:port"):
        InferenceClient(address)
    result = run("ready", "--address", address)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: address is ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("timeout_s", OTHER_TIMEOUTS)
def test_other_timeout_is_refused(timeout_s: float) -> None:
    with pytest.raises(
        ValueError, match=r"timeout is .* s; expected more than 0 and at most 86400"
    ):
        InferenceClient("127.0.0.1:8001", timeout_s)
    result = run("ready", "--timeout-s", str(timeout_s))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: timeout is ")


def test_absent_server_is_named() -> None:
    address = f"127.0.0.1:{free_port()}"
    with InferenceClient(address) as client, pytest.raises(InferenceError, match=address) as error:
        client.live()
    assert error.value.code is grpc.StatusCode.UNAVAILABLE


def test_proxy_of_the_environment_is_not_used(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    with InferenceClient(address) as client:
        assert client.live()


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_command_infer_prints_classes(address: str, tmp_path: Path) -> None:
    images = np.zeros((3, 8, 8, 1), np.float32)
    for row, column in enumerate([4, 0, 7]):
        images[row, :, column] = 1.0
    np.save(tmp_path / "images.npy", images)
    result = run(
        "infer", "--address", address, "--model", "digits", "--input", tmp_path / "images.npy"
    )
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0] == "logits float32 [3, 10]"
    assert result.stdout.splitlines()[-1] == "classes 4 0 7"


def test_command_metadata_prints_the_signature(address: str) -> None:
    result = run("metadata", "--address", address, "--model", "digits")
    assert result.exit_code == 0
    assert 'datatype: "FP32"' in result.stdout
    assert 'name: "hpc-gateway"' in run("metadata", "--address", address).stdout


def test_command_ready_is_an_exit_status(address: str) -> None:
    assert run("ready", "--address", address).exit_code == 0
    with running_server(None) as (unready, _, _):
        result = run("ready", "--address", unready)
    assert (result.exit_code, result.stdout) == (1, "not ready\n")


def npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def npy_of_shape(shape: str, descr: str = "'<f8'") -> bytes:
    """A file that says it holds `descr` of `shape`, and holds nothing."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


def test_command_explains_bad_input(address: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "several.npz", a=np.zeros(1))
    (tmp_path / "directory.npy").mkdir()
    for name, content in {
        "wide": npy(np.zeros((1, 28, 28, 1), np.float32)),
        "text": b"no array",
        "empty": b"",
        "cut": npy(np.zeros(9))[:-1],
        "huge": npy_of_shape("(1000000000000000,)"),
        "negative": npy_of_shape("(-1,)"),
        "open": npy_of_shape("((((("),
        "boolean": npy_of_shape("(True,)"),
        "unhashable": npy_of_shape("{[]: 1}"),
        "typeless": npy_of_shape("(1,)", descr="()"),
        "deep": npy_of_shape(f"({'-' * 3000}1,)"),
        "objects": npy_of_shape("(1,)", descr="'|O'"),
        "void": npy(np.zeros(1, "V4")),
        "record": npy(np.zeros(1, [("a", "<f4")])),
        "complex": npy(np.zeros(1, complex)),
        "words": npy(np.array(["a"])),
    }.items():
        (tmp_path / f"{name}.npy").write_bytes(content)
    for file, message in {
        "absent.npy": "absent.npy as a .npy array: No such file or directory",
        "x" * 300: "x as a .npy array: File name too long",
        "directory.npy": "directory.npy as a .npy array: Is a directory",
        "several.npz": "cannot read",
        "text.npy": "cannot read",
        "empty.npy": "cannot read",
        "cut.npy": "cannot read",
        "huge.npy": "Unable to allocate",
        "negative.npy": "cannot read",
        "open.npy": "cannot read",
        "boolean.npy": "cannot read",
        "unhashable.npy": "cannot read",
        "typeless.npy": "cannot read",
        "deep.npy": "cannot read",
        "objects.npy": "Object arrays cannot be loaded",
        "void.npy": "input 'image' is |V4; expected one of BOOL",
        "record.npy": "input 'image' is [('a', '<f4')]; expected one of BOOL",
        "complex.npy": "input 'image' is complex128; expected one of BOOL",
        "words.npy": "input 'image' is <U1; expected one of BOOL",
        "wide.npy": "input 'image' has shape [1, 28, 28, 1]. Expected inputs",
    }.items():
        result = run("infer", "--address", address, "--model", "digits", "--input", tmp_path / file)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1
        assert message in result.stderr


def test_command_refuses_a_model_of_several_inputs(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(npy(np.zeros(1)))
    with canned(typed_reply(), num_inputs=2) as address:
        result = run("infer", "--address", address, "--model", "m", "--input", tmp_path / "x.npy")
    message = "error: model 'm' has 2 inputs ('input0', 'input1'); one can be sent\n"
    assert (result.exit_code, result.stderr) == (2, message)


def test_command_prints_what_a_strange_server_answers(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(npy(np.zeros(1)))
    reply = oip.ModelInferResponse()
    for name, shape in {"logits": [3, 0], "a\x1b[31m\n": [0]}.items():
        reply.outputs.add(name=name, datatype="FP32", shape=shape)
    with canned(reply) as address:
        result = run("infer", "--address", address, "--model", "m", "--input", tmp_path / "x.npy")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "logits float32 [3, 0]"
    assert r"a\x1b[31m\n float32 [0]" in lines
    assert not any(line.startswith("classes") for line in lines)


@pytest.mark.parametrize("command", ["metadata", "ready"])
def test_empty_model_is_not_the_server(address: str, command: str) -> None:
    result = run(command, "--address", address, "--model", "")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: unknown model ''")


def test_command_fails_when_the_server_is_absent() -> None:
    result = run("metadata", "--address", f"127.0.0.1:{free_port()}")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: 127.0.0.1:")
