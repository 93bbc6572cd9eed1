"""What tests of this room share: a small published model, and a server without Ray."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
from inference import grpc_service_pb2 as oip
from inference import grpc_service_pb2_grpc as oip_grpc

from models.architecture import parse_model
from models.weights import weight_shapes
from registry.artifact import LoadedArtifact, load, publish
from registry.example import MODEL_CONFIG, example_artifact
from serving.model import ServedModel
from serving.server import GatewayServer
from serving.service import InferenceService, Predict
from serving.signature import TensorSpec

EXAMPLE_MODEL = ServedModel(
    name="digits",
    version="1.2.3",
    platform="flax_safetensors",
    directory=Path("unused"),
    digest="unused",
    input=TensorSpec("image", "FP32", (-1, 8, 8, 1)),
    output=TensorSpec("logits", "FP32", (-1, 10)),
    properties={"architecture": "mlp"},
)

WAIT_S = 30.0  # far more than anything takes


def example_images(batch: int, image_size: int = 8) -> np.ndarray:
    """Random images [batch, image_size, image_size, 1] float32, the same every time."""
    shape = (batch, image_size, image_size, 1)
    return np.random.default_rng(7).random(shape, dtype=np.float32)


def publish_example(directory: Path, image_size: int = 8) -> LoadedArtifact:
    """Publishes a tiny vision transformer with random weights for square images."""
    patches = {"image_size": image_size, "patch_size": 4, "num_channels": 1}
    config = MODEL_CONFIG | {"input": {"patches": patches}}
    artifact = example_artifact()
    artifact.model.config_json = json.dumps(config)
    artifact.inputs[0].shape[1:3] = [image_size, image_size]
    rng = np.random.default_rng(3)
    shapes = weight_shapes(parse_model(artifact.model.architecture, config))
    # Every weight is random, the head too, so that a lost or transposed tensor changes the logits.
    weights = {name: rng.normal(0, 0.3, shape) for name, shape in shapes.items()}
    publish(directory, artifact, {n: w.astype(np.float32) for n, w in weights.items()})
    return load(directory)


async def mean_of_each_row(batch: np.ndarray) -> np.ndarray:
    """A model that can be checked by hand: logits[i] = mean(image) + i."""
    means = batch.reshape(len(batch), -1).mean(axis=1, keepdims=True)
    return (means + np.arange(10)).astype(np.float32)


def stub(address: str) -> oip_grpc.GRPCInferenceServiceStub:
    """A client of a server at an address."""
    return oip_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(address))


def request(
    batch: int = 1, *, request_id: str = "", model_version: str = ""
) -> oip.ModelInferRequest:
    """Asks the example model about random images."""
    images = example_images(batch)
    message = oip.ModelInferRequest(
        model_name="digits",
        model_version=model_version,
        id=request_id,
        raw_input_contents=[images.tobytes()],
    )
    message.inputs.add(name="image", datatype="FP32", shape=images.shape)
    return message


@contextmanager
def running_server(
    predict: Predict | None,
    *,
    model: ServedModel = EXAMPLE_MODEL,
    max_batch_size: int = 64,
    max_message_bytes: int = 2**20,
    timeout_s: float = 30.0,
) -> Iterator[tuple[str, GatewayServer, asyncio.AbstractEventLoop]]:
    """The real gRPC server on a free port, in a thread; not ready if `predict` is None."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> tuple[GatewayServer, str]:
        service = InferenceService(model, max_batch_size=max_batch_size, timeout_s=timeout_s)
        server = GatewayServer(service, max_message_bytes)
        address = await server.start("127.0.0.1", 0)
        if predict is not None:
            await server.open(predict)
        return server, address

    server, address = asyncio.run_coroutine_threadsafe(start(), loop).result(WAIT_S)
    try:
        yield address, server, loop
    finally:
        asyncio.run_coroutine_threadsafe(server.drain(0), loop).result(WAIT_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(WAIT_S)
        loop.close()
