"""LitServe with the model of the comparison, in an environment of its own.

litserve_server --version
litserve_server JOB.json PORT BATCH_TIMEOUT_S

A request is JSON with the example's bytes in base64, as LitServe's documentation sends images; an
answer is bytes. BATCH_TIMEOUT_S 0 computes each request by itself.
"""

import base64
import sys
from typing import Any

import litserve
import numpy as np
from starlette.responses import Response

from benchmarks.serving.job import MAX_BATCH_SIZE, Job, predict_of, read_job


class _Api(litserve.LitAPI):
    """What LitServe runs in its worker."""

    def __init__(self, job: Job, batch_timeout_s: float) -> None:
        self._job = job
        if batch_timeout_s:
            super().__init__(max_batch_size=MAX_BATCH_SIZE, batch_timeout=batch_timeout_s)
        else:
            super().__init__()

    def setup(self, device: str) -> None:
        self._predict = predict_of(self._job)

    def decode_request(self, request: dict[str, Any]) -> np.ndarray:
        example = np.frombuffer(base64.b64decode(request["data"]), np.float32)
        return example.reshape(1, *self._job.input_shape)

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        return np.concatenate(inputs)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self._predict(x)

    def unbatch(self, output: np.ndarray) -> list[np.ndarray]:
        return list(output)

    def encode_response(self, output: np.ndarray) -> Response:
        return Response(output.tobytes(), media_type="application/octet-stream")


def _serve(job: Job, port: int, batch_timeout_s: float) -> None:
    # fast_queue is ZeroMQ in the place of multiprocessing's own queues.
    server = litserve.LitServer(
        _Api(job, batch_timeout_s),
        accelerator="cpu",
        fast_queue=True,
        timeout=False,
        disable_openapi_url=True,
    )
    server.run(
        host="127.0.0.1",
        port=port,
        num_api_servers=1,
        log_level="error",
        access_log=False,
        generate_client_file=False,
        pretty_logs=False,
    )


if __name__ == "__main__":
    if sys.argv[1:] == ["--version"]:
        print(litserve.__version__)
    else:
        _serve(read_job(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
