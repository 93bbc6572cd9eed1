"""The floor of the comparison: a bare grpc.aio server that calls the model in its event loop.

floor_server JOB.json PORT
"""

# ruff: noqa: N802 - the protocol names the method

import sys

import grpc
import numpy as np
import uvloop
from inference import grpc_service_pb2 as oip
from inference import grpc_service_pb2_grpc as oip_grpc

from benchmarks.serving.job import Job, predict_of, read_job


class _Floor(oip_grpc.GRPCInferenceServiceServicer):
    """Checks nothing, and knows one model."""

    def __init__(self, job: Job) -> None:
        self._job, self._predict = job, predict_of(job)

    async def ModelInfer(
        self, request: oip.ModelInferRequest, context: grpc.aio.ServicerContext
    ) -> oip.ModelInferResponse:
        batch = np.frombuffer(request.raw_input_contents[0], np.float32)
        answer = self._predict(batch.reshape(request.inputs[0].shape))
        response = oip.ModelInferResponse(
            model_name=self._job.name, raw_output_contents=[answer.tobytes()]
        )
        response.outputs.add(name=self._job.output, datatype="FP32", shape=answer.shape)
        return response


async def _serve(job: Job, port: int) -> None:
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    oip_grpc.add_GRPCInferenceServiceServicer_to_server(_Floor(job), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(_serve(read_job(sys.argv[1]), int(sys.argv[2])))
