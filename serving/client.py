"""A client of the Open Inference Protocol, as a class and as a command.

bazel run //serving:client -- infer --address 127.0.0.1:8001 --model digits --input images.npy
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Self

import grpc
import numpy as np
import typer
from inference import grpc_service_pb2 as oip
from inference import grpc_service_pb2_grpc as oip_grpc

from base.program import EXIT_BAD_INPUT, EXIT_FAILED, end_with_error, from_user
from base.text import printable
from serving.errors import TensorContentError
from serving.replies import decode_outputs
from serving.signature import DTYPES

_DATATYPES = {dtype: datatype for datatype, dtype in DTYPES.items()}
_MAX_MESSAGE_BYTES = 64 * 2**20
_MAX_TIMEOUT_S = 24 * 3600.0

_ADDRESS = re.compile(r"(?:[^\s:/\[\]]+|\[[0-9a-fA-F:.]+\]):([0-9]{1,5})", re.ASCII)

# The caller's mistake, as opposed to the server's state.
_BAD_INPUT = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)


class InferenceError(Exception):
    """The server refused or could not be reached; `code` is the gRPC status."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class InferenceClient:
    """One connection to a server. Thread-safe; close it, or use it as a context manager.

    Args:
        address: `host:port`; an IPv6 host stands in brackets. The environment's proxy is not used.
        timeout_s: how long each call may take, at most a day.

    Raises:
        ValueError: either is something else. Whether anyone answers there, the first call tells.
    """

    def __init__(self, address: str, timeout_s: float = 30.0) -> None:
        match = _ADDRESS.fullmatch(address)
        if match is None or not 0 < int(match[1]) < 2**16:
            raise ValueError(f"address is {address!r}; expected host:port, as in 127.0.0.1:8001")
        if not 0 < timeout_s <= _MAX_TIMEOUT_S:  # NaN is neither
            raise ValueError(
                f"timeout is {timeout_s} s; expected more than 0 and at most {_MAX_TIMEOUT_S:.0f}"
            )
        self._address = address
        self._timeout_s = timeout_s
        self._channel = grpc.insecure_channel(
            address,
            options=[
                ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
                ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
                ("grpc.enable_http_proxy", 0),
            ],
        )
        self._stub = oip_grpc.GRPCInferenceServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def live(self) -> bool:
        """True if the server answers."""
        return self._call(self._stub.ServerLive, oip.ServerLiveRequest()).live

    def ready(self, model: str | None = None, version: str = "") -> bool:
        """True if the server, or a model of it, takes requests."""
        if model is None:
            return self._call(self._stub.ServerReady, oip.ServerReadyRequest()).ready
        request = oip.ModelReadyRequest(name=model, version=version)
        return self._call(self._stub.ModelReady, request).ready

    def server_metadata(self) -> oip.ServerMetadataResponse:
        """Name and version of the server."""
        return self._call(self._stub.ServerMetadata, oip.ServerMetadataRequest())

    def model_metadata(self, model: str, version: str = "") -> oip.ModelMetadataResponse:
        """Signature and versions of a model."""
        request = oip.ModelMetadataRequest(name=model, version=version)
        return self._call(self._stub.ModelMetadata, request)

    def infer(
        self,
        model: str,
        inputs: Mapping[str, np.ndarray],
        *,
        version: str = "",
        outputs: Sequence[str] = (),
    ) -> dict[str, np.ndarray]:
        """Runs a model.

        Args:
            model: its name.
            inputs: arrays by input name; the first dimension is the batch.
            version: its version; empty lets the server choose.
            outputs: names of the outputs wanted; all if empty.

        Returns:
            Arrays by output name, read-only; BYTES are object arrays of Python's bytes.

        Raises:
            InferenceError: the server refused, failed, did not answer in time, or answered
                something that is not the protocol (with the code INTERNAL).
            TypeError: an array has a dtype that the protocol does not know.
        """
        request = oip.ModelInferRequest(
            model_name=model,
            model_version=version,
            outputs=[
                oip.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in outputs
            ],
        )
        for name, array in inputs.items():
            _add_input(request, name, array)
        response = self._call(self._stub.ModelInfer, request)
        try:
            return decode_outputs(response)
        except TensorContentError as error:
            message = f"{self._address}: the reply breaks the protocol: {error}"
            raise InferenceError(grpc.StatusCode.INTERNAL, message) from error

    def _call(self, method: Callable[..., Any], request: Any) -> Any:
        try:
            return method(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            code = error.code()
            where = f"{self._address}: " if code not in _BAD_INPUT else ""
            raise InferenceError(code, f"{where}{error.details()} ({code.name})") from None


def _add_input(request: oip.ModelInferRequest, name: str, array: np.ndarray) -> None:
    dtype = array.dtype.newbyteorder("<")
    if dtype not in _DATATYPES:
        raise TypeError(f"input {name!r} is {array.dtype}; expected one of {', '.join(DTYPES)}")
    request.inputs.add(name=name, datatype=_DATATYPES[dtype], shape=array.shape)
    request.raw_input_contents.append(array.astype(dtype, copy=False).tobytes())


app = typer.Typer(add_completion=False, no_args_is_help=True, help="Talk to an inference server.")

Address = Annotated[str, typer.Option(help="host:port of the server.")]
TimeoutS = Annotated[float, typer.Option(help="Seconds to wait for an answer.")]
Model = Annotated[str, typer.Option(help="Name of the model.")]


@app.command("infer")
def infer_command(
    model: Model,
    input_file: Annotated[Path, typer.Option("--input", help=".npy array, the batch first.")],
    address: Address = "127.0.0.1:8001",
    timeout_s: TimeoutS = 30.0,
) -> None:
    """Send an array to a model and print what it predicts."""
    batch = _load_array(input_file)
    with _connection(address, timeout_s) as client:
        inputs = client.model_metadata(model).inputs
        if len(inputs) != 1:
            names = ", ".join(repr(spec.name) for spec in inputs)
            raise ValueError(f"model {model!r} has {len(inputs)} inputs ({names}); one can be sent")
        outputs = client.infer(model, {inputs[0].name: batch})
    for name, output in outputs.items():
        typer.echo(f"{printable(name)} {output.dtype} {list(output.shape)}")
        typer.echo(np.array2string(output, precision=3, suppress_small=True, threshold=100))
        if name == "logits" and output.ndim and output.shape[-1]:
            typer.echo(f"classes {' '.join(map(str, output.argmax(axis=-1)))}")


@app.command("metadata")
def metadata_command(
    model: Annotated[str | None, typer.Option(help="A model; without it, the server.")] = None,
    address: Address = "127.0.0.1:8001",
    timeout_s: TimeoutS = 30.0,
) -> None:
    """Print what a server, or a model of it, says about itself."""
    with _connection(address, timeout_s) as client:
        metadata = client.server_metadata() if model is None else client.model_metadata(model)
    typer.echo(str(metadata).strip())


@app.command("ready")
def ready_command(
    model: Annotated[str | None, typer.Option(help="A model; without it, the server.")] = None,
    address: Address = "127.0.0.1:8001",
    timeout_s: TimeoutS = 30.0,
) -> None:
    """Exit with status 0 if a server, or a model of it, takes requests, and 1 if not."""
    with _connection(address, timeout_s) as client:
        ready = client.ready(model)
    typer.echo("ready" if ready else "not ready")
    if not ready:
        raise typer.Exit(EXIT_FAILED)


@contextmanager
def _connection(address: str, timeout_s: float) -> Iterator[InferenceClient]:
    """A client whose errors end the command with one line."""
    try:
        with InferenceClient(address, timeout_s) as client:
            yield client
    except (InferenceError, TypeError, ValueError) as error:
        failed = isinstance(error, InferenceError) and error.code not in _BAD_INPUT
        end_with_error(error, EXIT_FAILED if failed else EXIT_BAD_INPUT)


def _load_array(path: Path) -> np.ndarray:
    try:
        with from_user(path).open("rb") as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)
    except Exception as error:  # numpy states no set of errors, and a header is an expression
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        end_with_error(f"cannot read {path} as a .npy array: {reason}")


if __name__ == "__main__":
    app()
