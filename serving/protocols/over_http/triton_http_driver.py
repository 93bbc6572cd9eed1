"""Drives a server with NVIDIA's published HTTP clients and prints what they saw, as JSON.

A program of its own, with other packages than ours. It imports nothing of ours.

triton_http_driver HOST:PORT MODEL IMAGES.npy
"""

import asyncio
import copy
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException


def image_input(images: np.ndarray, name: str = "image", **options: bool) -> triton.InferInput:
    """Images as the client sends them: binary, unless options say otherwise."""
    tensor = triton.InferInput(name, list(images.shape), "FP32")
    tensor.set_data_from_numpy(images, **options)
    return tensor


def error_of(call: Callable[[], object]) -> dict[str, str]:
    """Status and message of a call that must fail."""
    try:
        call()
    except InferenceServerException as error:
        return {"status": error.status(), "message": error.message()}
    raise AssertionError("the server accepted what it must refuse")


def inferences(
    client: triton.InferenceServerClient, model: str, images: np.ndarray
) -> dict[str, Any]:
    """The same images in every form that the client has."""
    requested = triton.InferRequestedOutput
    forms: dict[str, dict[str, Any]] = {
        "default": {},
        "json": {"outputs": [requested("logits", binary_data=False)]},
        "binary": {"outputs": [requested("logits", binary_data=True)]},
        "gzip": {"request_compression_algorithm": "gzip"},
        "deflate": {"request_compression_algorithm": "deflate"},
        "gzip wanted": {"response_compression_algorithm": "gzip"},
        "with everything": {
            "model_version": "1.2.3",
            "request_id": "request-7",
            "priority": 2,
            "timeout": 30_000_000,
            "headers": {"x-request-id": "mine"},
            "query_params": {"of": "no importance"},
        },
    }
    seen: dict[str, Any] = {}
    for name, options in forms.items():
        for binary in (True, False):
            inputs = [image_input(images, binary_data=binary)]
            # The client writes into the headers that it is given.
            result = client.infer(model, inputs, **copy.deepcopy(options))
            seen[f"{name}, input {'binary' if binary else 'JSON'}"] = {
                "logits": result.as_numpy("logits").tolist(),
                "response": result.get_response(),
            }
    return seen


def classes(client: triton.InferenceServerClient, model: str, images: np.ndarray) -> Any:
    """The three largest values as strings, binary and as JSON."""
    seen = []
    for binary in (True, False):
        wanted = triton.InferRequestedOutput("logits", binary_data=binary, class_count=3)
        found = client.infer(model, [image_input(images)], outputs=[wanted]).as_numpy("logits")
        seen.append([[_text(one) for one in row] for row in found])
    return seen


def raw_body(client: triton.InferenceServerClient, model: str, images: np.ndarray) -> Any:
    """One image as the whole body, made and read by the client's own functions."""
    response = client._post(
        f"v2/models/{model}/infer",
        request_body=images[:1].tobytes(),
        headers={"Inference-Header-Content-Length": "0"},
        query_params=None,
    )
    return triton.InferResult(response, verbose=False).as_numpy("logits").tolist()


async def drive_aio(address: str, model: str, images: np.ndarray) -> dict[str, Any]:
    """The asyncio client."""
    async with triton_aio.InferenceServerClient(address) as client:
        calls = [client.infer(model, [image_input(images)]) for _ in range(8)]
        results = await asyncio.gather(*calls)
        return {
            "ready": await client.is_model_ready(model),
            "metadata": await client.get_server_metadata(),
            "logits": [result.as_numpy("logits").tolist() for result in results],
        }


def drive(address: str, model: str, images: np.ndarray) -> dict[str, Any]:
    """Everything the test compares."""
    with triton.InferenceServerClient(address) as client:
        return {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "model_ready": client.is_model_ready(model),
            "version_ready": client.is_model_ready(model, "1.2.3"),
            "other_ready": client.is_model_ready("letters"),
            "server_metadata": client.get_server_metadata(),
            "model_metadata": client.get_model_metadata(model),
            "index": client.get_model_repository_index(),
            "inferences": inferences(client, model, images),
            "classes": classes(client, model, images),
            "raw": raw_body(client, model, images),
            "aio": asyncio.run(drive_aio(address, model, images)),
            "load": error_of(lambda: client.load_model(model)),
            "unload": error_of(lambda: client.unload_model(model)),
            "wrong_name": error_of(lambda: client.infer(model, [image_input(images, "picture")])),
            "nan": error_of(lambda: client.infer(model, [image_input(images * np.nan)])),
            "unknown_model": error_of(lambda: client.infer("letters", [image_input(images)])),
            "sequence": error_of(lambda: client.infer(model, [image_input(images)], sequence_id=3)),
        }


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


if __name__ == "__main__":
    address, model, images = sys.argv[1:]
    json.dump(drive(address, model, np.load(images, allow_pickle=False)), sys.stdout)
