"""Drives a server with every method of NVIDIA's published client, and prints what it saw, as JSON.

A program of its own because two copies of the protobuf package `inference`, the client's and ours,
cannot be loaded into one process. It imports nothing of ours.

triton_driver sync|aio ADDRESS IMAGES.npy
triton_driver descriptors
"""

import asyncio
import json
import queue
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import ml_dtypes
import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

DTYPES = [
    *[np.dtype(kind) for kind in ("?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8")],
    *[np.dtype(kind) for kind in ("f2", "f4", "f8", ml_dtypes.bfloat16)],
]

# What no server takes that long for; each call ends long before.
PATIENCE_S = 60.0


def tensor(name: str, array: np.ndarray) -> triton.InferInput:
    """An input as the client sends it: raw."""
    given = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    given.set_data_from_numpy(array)
    return given


def echo_inputs(dtype: np.dtype) -> tuple[str, list[triton.InferInput]]:
    """The model that gives back what it gets, and what to give it."""
    values = np.array([[0, 1, 1]]).astype(dtype)
    return f"echo_{np_to_triton_dtype(dtype).lower()}", [tensor("x", values)]


def scores(array: np.ndarray) -> list[Any]:
    """Numbers as JSON has them."""
    return array.astype(np.float64).tolist()


def status_of(error: InferenceServerException) -> dict[str, str]:
    """Status and message."""
    return {"status": str(error.status()), "message": error.message()}


def error_of(call: Callable[[], object]) -> dict[str, str]:
    """Status and message of a call that must fail."""
    try:
        call()
    except InferenceServerException as error:
        return status_of(error)
    raise AssertionError("the server accepted what it must refuse")


async def error_of_aio(call: Awaitable[object]) -> dict[str, str]:
    """The same of an awaitable."""
    try:
        await call
    except InferenceServerException as error:
        return status_of(error)
    raise AssertionError("the server accepted what it must refuse")


def sent_options() -> dict[str, Any]:
    """All that the client can say of a request."""
    return {
        "model_version": "1.2.3",
        "outputs": [triton.InferRequestedOutput("logits")],
        "request_id": "request-7",
        "priority": 1,
        "timeout": 30_000_000,
        "client_timeout": PATIENCE_S,
        "headers": {"x-request-id": "trace-7"},
        "compression_algorithm": "gzip",
    }


def top_three() -> list[triton.InferRequestedOutput]:
    """Asks for classes."""
    return [triton.InferRequestedOutput("logits", class_count=3)]


def strings(array: np.ndarray) -> list[Any]:
    """Byte strings as JSON has them."""
    return [[item.decode() for item in row] for row in array]


def drive_sync(address: str, images: np.ndarray) -> dict[str, Any]:
    """Everything that the synchronous client can do."""
    with triton.InferenceServerClient(address) as client:
        inputs = [tensor("image", images)]
        result = client.infer("digits", inputs, **sent_options())
        classes = client.infer("digits", inputs, outputs=top_three())
        seen = {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "model_ready": client.is_model_ready("digits"),
            "server_metadata": client.get_server_metadata(as_json=True),
            "model_metadata": client.get_model_metadata("digits", as_json=True),
            "index": client.get_model_repository_index(as_json=True),
            "response": result.get_response(as_json=True),
            "logits": scores(result.as_numpy("logits")),
            "classes": strings(classes.as_numpy("logits")),
            "echoes": {},
            "load": client.load_model("digits"),
            "unload": client.unload_model("digits"),
            "config": error_of(lambda: client.get_model_config("digits")),
            "unknown": error_of(lambda: client.infer("letters", inputs)),
            "shape": error_of(lambda: client.infer("digits", [tensor("image", images[..., 0])])),
            "sequence": error_of(lambda: client.infer("digits", inputs, sequence_id=7)),
            "client_timeout": error_of(lambda: client.infer("slow", inputs, client_timeout=0.5)),
            "timeout": error_of(lambda: client.infer("slow", inputs, timeout=1000)),
            "cancelled": cancelled(client, inputs),
            "stream": stream(client, images),
        }
        for dtype in DTYPES:
            model, given = echo_inputs(dtype)
            seen["echoes"][model] = scores(client.infer(model, given).as_numpy("y"))
        return seen


def cancelled(client: triton.InferenceServerClient, inputs: list[Any]) -> dict[str, str]:
    """The end of a call that is cancelled."""
    ends: queue.Queue[Any] = queue.Queue()
    call = client.async_infer("slow", inputs, lambda result, error: ends.put(error))
    call.cancel()
    return status_of(ends.get(timeout=PATIENCE_S))


def stream(client: triton.InferenceServerClient, images: np.ndarray) -> dict[str, Any]:
    """Three requests in one stream, of which the second is wrong."""
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for number, batch in enumerate((images, images[..., 0], images[:1])):
        client.async_stream_infer(
            "digits", [tensor("image", batch)], request_id=str(number), priority=2
        )
    seen = [answers.get(timeout=PATIENCE_S) for _ in range(3)]
    client.stop_stream()
    client.start_stream(lambda result, error: answers.put((result, error)))
    client.async_stream_infer("slow", [tensor("image", images)])
    client.stop_stream(cancel_requests=True)
    return {
        "logits": [result and scores(result.as_numpy("logits")) for result, _ in seen],
        "ids": [result and result.get_response().id for result, _ in seen],
        "errors": [error and error.message() for _, error in seen],
        "cancelled": status_of(answers.get(timeout=PATIENCE_S)[1]),
    }


async def drive_aio(address: str, images: np.ndarray) -> dict[str, Any]:
    """Everything that the asyncio client can do."""
    async with triton_aio.InferenceServerClient(address) as client:
        inputs = [tensor("image", images)]
        result = await client.infer("digits", inputs, **sent_options())
        classes = await client.infer("digits", inputs, outputs=top_three())
        task = asyncio.create_task(client.infer("slow", inputs))
        await asyncio.sleep(0)
        task.cancel()
        seen = {
            "live": await client.is_server_live(),
            "ready": await client.is_server_ready(),
            "model_ready": await client.is_model_ready("digits"),
            "server_metadata": await client.get_server_metadata(as_json=True),
            "model_metadata": await client.get_model_metadata("digits", as_json=True),
            "index": await client.get_model_repository_index(as_json=True),
            "response": result.get_response(as_json=True),
            "logits": scores(result.as_numpy("logits")),
            "classes": strings(classes.as_numpy("logits")),
            "echoes": {},
            "load": await client.load_model("digits"),
            "unload": await client.unload_model("digits"),
            "config": await error_of_aio(client.get_model_config("digits")),
            "unknown": await error_of_aio(client.infer("letters", inputs)),
            "shape": await error_of_aio(client.infer("digits", [tensor("image", images[..., 0])])),
            "sequence": await error_of_aio(client.infer("digits", inputs, sequence_id=7)),
            "client_timeout": await error_of_aio(client.infer("slow", inputs, client_timeout=0.5)),
            "timeout": await error_of_aio(client.infer("slow", inputs, timeout=1000)),
            "cancelled": {"status": "StatusCode.CANCELLED", "message": await ended(task)},
            "stream": await stream_aio(client, images),
        }
        for dtype in DTYPES:
            model, given = echo_inputs(dtype)
            seen["echoes"][model] = scores((await client.infer(model, given)).as_numpy("y"))
        return seen


async def ended(task: "asyncio.Task[object]") -> str:
    """How a task ended that was cancelled."""
    (outcome,) = await asyncio.gather(task, return_exceptions=True)
    return type(outcome).__name__


async def stream_aio(
    client: triton_aio.InferenceServerClient, images: np.ndarray
) -> dict[str, Any]:
    """Three requests in one stream, of which the second is wrong."""

    async def requests() -> AsyncIterator[dict[str, Any]]:
        for number, batch in enumerate((images, images[..., 0], images[:1])):
            yield {
                "model_name": "digits",
                "inputs": [tensor("image", batch)],
                "request_id": str(number),
            }

    async def one() -> AsyncIterator[dict[str, Any]]:
        yield {"model_name": "slow", "inputs": [tensor("image", images)]}

    seen = [answer async for answer in client.stream_infer(requests())]
    slow = client.stream_infer(one())
    waiting = asyncio.ensure_future(slow.__anext__())
    await asyncio.sleep(0.1)
    slow.cancel()
    return {
        "logits": [result and scores(result.as_numpy("logits")) for result, _ in seen],
        "ids": [result and result.get_response().id for result, _ in seen],
        "errors": [error and error.message() for _, error in seen],
        "cancelled": {"status": "StatusCode.CANCELLED", "message": await ended(waiting)},
    }


def descriptors() -> list[Any]:
    """Every message and method of the client's protocol, field by field."""
    file = FileDescriptorProto.FromString(service_pb2.DESCRIPTOR.serialized_pb)

    def of_message(prefix: str, message: Any) -> list[Any]:
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
        nested = [entry for inner in message.nested_type for entry in of_message(name, inner)]
        return [[name, fields], *nested]

    messages = [entry for m in file.message_type for entry in of_message(file.package, m)]
    methods = [
        [
            f"{file.package}.{service.name}/{m.name}",
            [m.input_type, m.output_type, m.client_streaming, m.server_streaming],
        ]
        for service in file.service
        for m in service.method
    ]
    return [messages, methods]


def main() -> None:
    """Runs what the command line says."""
    if sys.argv[1] == "descriptors":
        seen: Any = descriptors()
    else:
        images = np.load(sys.argv[3], allow_pickle=False)
        if sys.argv[1] == "sync":
            seen = drive_sync(sys.argv[2], images)
        else:
            seen = asyncio.run(drive_aio(sys.argv[2], images))
    json.dump(seen, sys.stdout)


if __name__ == "__main__":
    main()
