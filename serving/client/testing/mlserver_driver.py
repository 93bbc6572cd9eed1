"""Another project's server of the protocol, whose model answers each input with itself.

A program of its own, since it has packages of its own; it imports nothing of ours.

    mlserver_driver GRPC_PORT HTTP_PORT
"""

import asyncio
import sys
from collections.abc import AsyncIterator

from mlserver import MLModel, MLServer
from mlserver.settings import ModelParameters, ModelSettings, Settings
from mlserver.types import InferenceRequest, InferenceResponse, MetadataTensor, ResponseOutput

INPUTS = [
    MetadataTensor(name="x", datatype="FP32", shape=[-1, 4]),
    MetadataTensor(name="words", datatype="BYTES", shape=[-1, 1]),
]


class Echo(MLModel):
    """Answers each input with itself."""

    async def load(self) -> bool:
        """Has nothing to load."""
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answers in the datatypes of the request."""
        outputs = [
            ResponseOutput(name=i.name, shape=i.shape, datatype=i.datatype, data=i.data)
            for i in payload.inputs
        ]
        return InferenceResponse(
            model_name=self.name, model_version=self.version, id=payload.id, outputs=outputs
        )

    async def predict_stream(
        self, payloads: AsyncIterator[InferenceRequest]
    ) -> AsyncIterator[InferenceResponse]:
        """Answers every request of a stream."""
        async for payload in payloads:
            yield await self.predict(payload)


async def main(grpc_port: int, http_port: int) -> None:
    """Serves until it is killed."""
    settings = Settings(
        host="127.0.0.1",
        grpc_port=grpc_port,
        http_port=http_port,
        metrics_endpoint=None,
        parallel_workers=0,
    )
    model = ModelSettings(
        name="echo",
        implementation=Echo,
        inputs=INPUTS,
        outputs=INPUTS,
        parameters=ModelParameters(version="v1"),
    )
    await MLServer(settings).start([model])


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
