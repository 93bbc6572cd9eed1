"""The Python client and its command against the real server."""

import socket
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
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


def test_command_explains_bad_input(address: str, tmp_path: Path) -> None:
    np.save(tmp_path / "wide.npy", np.zeros((1, 28, 28, 1), np.float32))
    (tmp_path / "text.npy").write_text("no array")
    for file, message in {
        "absent.npy": "cannot read",
        "text.npy": "cannot read",
        "wide.npy": "input 'image' has shape [1, 28, 28, 1]. Expected inputs",
    }.items():
        result = run("infer", "--address", address, "--model", "digits", "--input", tmp_path / file)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1
        assert message in result.stderr


def test_command_fails_when_the_server_is_absent() -> None:
    result = run("metadata", "--address", f"127.0.0.1:{free_port()}")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: 127.0.0.1:")
