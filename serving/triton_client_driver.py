"""Drives a server with NVIDIA's published client and prints what it saw, as JSON.

A program of its own because two copies of the protobuf package `inference`, the client's and ours,
cannot be loaded into one process. It imports nothing of ours.

triton_client_driver ADDRESS MODEL IMAGES.npy
"""

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype


def image_input(images: np.ndarray, name: str = "image") -> triton.InferInput:
    """Images as the client sends them: raw."""
    tensor = triton.InferInput(name, list(images.shape), np_to_triton_dtype(images.dtype))
    tensor.set_data_from_numpy(images)
    return tensor


def error_of(call: Callable[[], object]) -> dict[str, str]:
    """Status and message of a call that must fail."""
    try:
        call()
    except InferenceServerException as error:
        return {"status": error.status(), "message": error.message()}
    raise AssertionError("the server accepted a malformed request")


async def infer_aio(address: str, model: str, images: np.ndarray) -> list[Any]:
    """The same inference through the asyncio client."""
    async with triton_aio.InferenceServerClient(address) as client:
        result = await client.infer(model, [image_input(images)])
        return result.as_numpy("logits").tolist()


def drive(address: str, model: str, images: np.ndarray) -> dict[str, Any]:
    """Everything the test compares."""
    with triton.InferenceServerClient(address) as client:
        result = client.infer(
            model,
            [image_input(images)],
            model_version="1.2.3",
            outputs=[triton.InferRequestedOutput("logits")],
            request_id="request-7",
            client_timeout=60.0,
        )
        return {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "model_ready": client.is_model_ready(model),
            "server_metadata": client.get_server_metadata(as_json=True),
            "model_metadata": client.get_model_metadata(model, as_json=True),
            "response": result.get_response(as_json=True),
            "logits": result.as_numpy("logits").tolist(),
            "logits_aio": asyncio.run(infer_aio(address, model, images)),
            "wrong_shape": error_of(lambda: client.infer(model, [image_input(images[..., 0])])),
            "wrong_name": error_of(lambda: client.infer(model, [image_input(images, "picture")])),
            "wrong_datatype": error_of(
                lambda: client.infer(model, [image_input(images.astype(np.float64))])
            ),
            "nan": error_of(lambda: client.infer(model, [image_input(images * np.nan)])),
            "unknown_model": error_of(lambda: client.infer("letters", [image_input(images)])),
            "unknown_output": error_of(
                lambda: client.infer(
                    model, [image_input(images)], outputs=[triton.InferRequestedOutput("boxes")]
                )
            ),
        }


if __name__ == "__main__":
    address, model, images = sys.argv[1:]
    json.dump(drive(address, model, np.load(images, allow_pickle=False)), sys.stdout)
