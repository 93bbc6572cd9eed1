"""Drives a server with KServe's published clients and prints what they saw, as JSON.

A program of its own, with other packages than ours. It imports nothing of ours.

kserve_driver HTTP_HOST:PORT GRPC_HOST:PORT MODEL IMAGES.npy
"""

import asyncio
import json
import sys
from typing import Any

import numpy as np
from kserve import InferInput, InferRequest
from kserve.inference_client import (
    InferenceGRPCClient,
    InferenceRESTClient,
    RESTConfig,
)


def request(model: str, images: np.ndarray, *, binary: bool | None = None) -> InferRequest:
    """Images as the client has them by default, unless `binary` says which way."""
    tensor = InferInput("image", list(images.shape), "FP32")
    if binary is None:
        tensor.set_data_from_numpy(images)
    else:
        tensor.set_data_from_numpy(images, binary_data=binary)
    return InferRequest(model, [tensor], request_id="request-7")


async def drive_rest(address: str, model: str, images: np.ndarray) -> dict[str, Any]:
    """The REST client."""
    url = f"http://{address}"
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    seen: dict[str, Any] = {}
    for name, binary in (("default", None), ("binary", True), ("json", False)):
        response = await client.infer(url, request(model, images, binary=binary), model)
        seen[name] = {
            "logits": response.outputs[0].as_numpy().tolist(),
            "id": response.id,
            "model": response.model_name,
        }
    try:
        await client.infer(url, request("letters", images), "letters")
    except Exception as error:
        seen["unknown_model"] = str(error)
    seen["live"] = await client.is_server_live(url)
    seen["ready"] = await client.is_server_ready(url)
    seen["model_ready"] = await client.is_model_ready(url, model)
    await client.close()
    return seen


async def drive_grpc(address: str, model: str, images: np.ndarray) -> dict[str, Any]:
    """The gRPC client."""
    client = InferenceGRPCClient(address)
    seen: dict[str, Any] = {}
    for name, binary in (("default", None), ("binary", True), ("json", False)):
        response = await client.infer(request(model, images, binary=binary))
        seen[name] = {
            "logits": response.outputs[0].as_numpy().tolist(),
            "id": response.id,
            "model": response.model_name,
        }
    seen["live"] = await client.is_server_live()
    seen["ready"] = await client.is_server_ready()
    seen["model_ready"] = await client.is_model_ready(model)
    await client.close()
    return seen


async def drive(http: str, grpc: str, model: str, images: np.ndarray) -> dict[str, Any]:
    """Everything the test compares."""
    return {
        "rest": await drive_rest(http, model, images),
        "grpc": await drive_grpc(grpc, model, images),
    }


if __name__ == "__main__":
    http, grpc, model, images = sys.argv[1:]
    seen = asyncio.run(drive(http, grpc, model, np.load(images, allow_pickle=False)))
    json.dump(seen, sys.stdout)
