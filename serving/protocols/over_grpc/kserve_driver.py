"""Drives a server with KServe's published client and prints what it saw, as JSON.

A program of its own, since its copy of the protobuf package `inference` cannot be loaded beside
ours. It imports nothing of ours.

kserve_driver ADDRESS IMAGES.npy
"""

import asyncio
import json
import sys
from typing import Any

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest
from kserve.protocol.infer_type import RequestedOutput


def request(images: np.ndarray, *, binary: bool, **facts: Any) -> InferRequest:
    """Asks about images in one of the client's two ways; by default it is the binary one."""
    given = InferInput("image", list(images.shape), "FP32")
    given.set_data_from_numpy(images, binary_data=binary)
    return InferRequest("digits", [given], **facts)


async def drive(address: str, images: np.ndarray) -> dict[str, Any]:
    """Everything that the client can do."""
    outputs = [RequestedOutput("logits", {"binary_data": True})]
    async with InferenceGRPCClient(address) as client:
        raw = await client.infer(request(images, binary=True, request_id="request-7"))
        typed = await client.infer(request(images, binary=False))
        chosen = await client.infer(
            request(images, binary=True, request_outputs=outputs, parameters={"priority": 1})
        )
        seen: dict[str, Any] = {
            "live": await client.is_server_live(),
            "ready": await client.is_server_ready(),
            "model_ready": await client.is_model_ready("digits"),
            "id": raw.id,
            "raw": raw.outputs[0].as_numpy().tolist(),
            "typed": typed.outputs[0].as_numpy().tolist(),
            "chosen": chosen.outputs[0].as_numpy().tolist(),
        }
        try:
            await client.infer(request(images[..., 0], binary=True))
        except grpc.RpcError as error:
            seen["error"] = [str(error.code()), error.details()]
        return seen


if __name__ == "__main__":
    seen = asyncio.run(drive(sys.argv[1], np.load(sys.argv[2], allow_pickle=False)))
    json.dump(seen, sys.stdout)
