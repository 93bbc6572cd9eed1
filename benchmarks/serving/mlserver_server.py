"""MLServer with the model of the comparison, in an environment of its own.

mlserver_server --version
mlserver_server JOB.json REST_PORT GRPC_PORT [NAME=MAX_BATCH_TIME_S]...

It has the model once for each name, with a limit for how long a request waits for others; with 0 it
is computed by itself. It computes in its own process, which takes less than a request's way to one
of its workers and back.
"""

import asyncio
import sys
from collections.abc import Sequence

import mlserver
from mlserver import MLModel, MLServer
from mlserver.codecs import NumpyCodec
from mlserver.settings import ModelParameters, ModelSettings, Settings
from mlserver.types import InferenceRequest, InferenceResponse
from mlserver.utils import install_uvloop_event_loop

from benchmarks.serving.job import MAX_BATCH_SIZE, predict_of, read_job


class Runtime(MLModel):
    """What MLServer calls for each request, or for several that it has merged."""

    async def load(self) -> bool:
        self._job = read_job(self.settings.parameters.uri)
        self._predict = predict_of(self._job)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        batch = NumpyCodec.decode_input(payload.inputs[0])
        answer = self._predict(batch)
        output = NumpyCodec.encode_output(self._job.output, answer)
        return InferenceResponse(model_name=self.name, outputs=[output])


def _settings(rest_port: int, grpc_port: int) -> Settings:
    return Settings(
        host="127.0.0.1",
        http_port=rest_port,
        grpc_port=grpc_port,
        grpc_max_message_length=2**31 - 1,
        # Its access log, and compression, which a client on the same machine would not ask for.
        debug=False,
        gzip_enabled=False,
        metrics_endpoint=None,
        parallel_workers=0,
    )


def _model(name: str, file: str, max_batch_time_s: float) -> ModelSettings:
    batches = {"max_batch_size": MAX_BATCH_SIZE, "max_batch_time": max_batch_time_s}
    return ModelSettings(
        name=name,
        implementation=Runtime,
        parameters=ModelParameters(uri=file),
        **(batches if max_batch_time_s else {}),
    )


async def _serve(file: str, rest_port: int, grpc_port: int, names: Sequence[str]) -> None:
    pairs = [name.split("=") for name in names]
    server = MLServer(_settings(rest_port, grpc_port))
    await server.start([_model(name, file, float(seconds)) for name, seconds in pairs])


if __name__ == "__main__":
    if sys.argv[1:] == ["--version"]:
        print(mlserver.__version__)
    else:
        install_uvloop_event_loop()
        asyncio.run(_serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
