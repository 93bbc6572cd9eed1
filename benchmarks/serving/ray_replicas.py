"""What Ray Serve runs in the comparison, with and without batches.

Through HTTP an example is bytes, and so is an answer, which is the least that can be sent.
"""

# ruff: noqa: N802 - the protocol names the method

import numpy as np
from inference import grpc_service_pb2 as oip
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from benchmarks.serving.job import MAX_BATCH_SIZE, Job, predict_of


class Single:
    """A replica that computes each request by itself."""

    def __init__(self, job: Job) -> None:
        self._job, self._predict = job, predict_of(job)

    async def __call__(self, request: Request) -> Response:
        """Answers what comes through HTTP."""
        example = np.frombuffer(await request.body(), np.float32)
        answer = await self._answer(example.reshape(1, *self._job.input_shape))
        return Response(answer.tobytes(), media_type="application/octet-stream")

    async def ModelInfer(self, request: oip.ModelInferRequest) -> oip.ModelInferResponse:
        """Answers what comes through gRPC."""
        batch = np.frombuffer(request.raw_input_contents[0], np.float32)
        answer = await self._answer(batch.reshape(request.inputs[0].shape))
        response = oip.ModelInferResponse(
            model_name=self._job.name, raw_output_contents=[answer.tobytes()]
        )
        response.outputs.add(name=self._job.output, datatype="FP32", shape=answer.shape)
        return response

    async def _answer(self, batch: np.ndarray) -> np.ndarray:
        return self._predict(batch)


class Batched(Single):
    """A replica that computes together what comes within so many seconds."""

    def __init__(self, job: Job, batch_wait_s: float) -> None:
        super().__init__(job)
        self._answers.set_batch_wait_timeout_s(batch_wait_s)

    @serve.batch(max_batch_size=MAX_BATCH_SIZE)
    async def _answers(self, batches: list[np.ndarray]) -> list[np.ndarray]:
        return list(self._predict(np.concatenate(batches))[:, None])

    async def _answer(self, batch: np.ndarray) -> np.ndarray:
        answer: np.ndarray = await self._answers(batch)
        return answer
