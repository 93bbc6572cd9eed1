"""What travels: an example as each side is sent it, and its answers back as arrays.

Everything is made before anything is timed.
"""

import base64
import json
import struct

import numpy as np
from inference import grpc_service_pb2 as oip

from benchmarks.serving.job import Job

_FLOAT32 = struct.Struct("<f")


def grpc_request(job: Job, example: np.ndarray) -> bytes:
    """A ModelInferRequest of one example, raw, as stock clients send it."""
    request = oip.ModelInferRequest(model_name=job.name, raw_input_contents=[example.tobytes()])
    request.inputs.add(name=job.input, datatype="FP32", shape=[1, *example.shape])
    return request.SerializeToString()


def grpc_answer(answer: bytes) -> np.ndarray:
    """The values of a ModelInferResponse."""
    (content,) = oip.ModelInferResponse.FromString(answer).raw_output_contents
    return np.frombuffer(content, np.float32)


def unlike(request: bytes, number: int) -> bytes:
    """A ModelInferRequest that nobody has sent before: `number`, below 2**24, is its last value."""
    return request[: -_FLOAT32.size] + _FLOAT32.pack(number / 2**24)


def oip_binary_request(job: Job, example: np.ndarray) -> bytes:
    """The Open Inference Protocol over HTTP, the tensors in binary, as stock clients send it."""
    content = example.tobytes()
    tensor = {
        "name": job.input,
        "datatype": "FP32",
        "shape": [1, *example.shape],
        "parameters": {"binary_data_size": len(content)},
    }
    parameters = {"binary_data_output": True}
    head = json.dumps({"parameters": parameters, "inputs": [tensor]}).encode()
    length = f"Inference-Header-Content-Length: {len(head)}\r\n"
    path = f"/v2/models/{job.name}/infer"
    return http_request(path, head + content, "application/octet-stream", length)


def oip_binary_answer(answer: bytes) -> np.ndarray:
    """The values of such an answer, the only ones in it."""
    head, head_end = json.JSONDecoder().raw_decode(answer.decode("latin-1"))
    (output,) = head["outputs"]
    end = len(answer) - output["parameters"]["binary_data_size"]
    assert not answer[head_end:end].strip()
    return np.frombuffer(answer, np.float32, offset=end)


def oip_json_request(job: Job, example: np.ndarray) -> bytes:
    """The Open Inference Protocol over HTTP, all in JSON."""
    tensor = {
        "name": job.input,
        "datatype": "FP32",
        "shape": [1, *example.shape],
        # Nine digits are what float32 needs; those of float64 would be twice as long.
        "data": [float(f"{value:.9g}") for value in example.ravel().tolist()],
    }
    body = json.dumps({"inputs": [tensor]}).encode()
    return http_request(f"/v2/models/{job.name}/infer", body, "application/json")


def oip_json_answer(answer: bytes) -> np.ndarray:
    """The values of such an answer."""
    (output,) = json.loads(answer)["outputs"]
    return np.array(output["data"], np.float32)


def base64_request(job: Job, example: np.ndarray) -> bytes:
    """JSON with the bytes in base64, as LitServe's documentation sends images."""
    body = json.dumps({"data": base64.b64encode(example.tobytes()).decode()}).encode()
    return http_request("/predict", body, "application/json")


def bytes_request(path: str, example: np.ndarray) -> bytes:
    """The example's bytes and nothing else."""
    return http_request(path, example.tobytes(), "application/octet-stream")


def bytes_answer(answer: bytes) -> np.ndarray:
    """The values of an answer that is their bytes and nothing else."""
    return np.frombuffer(answer, np.float32)


def http_request(path: str, body: bytes, content_type: str, more: str = "") -> bytes:
    """A POST of HTTP/1.1, from its first line to its last byte.

    Args:
        path: What it is sent to.
        body: What is sent.
        content_type: Of the body.
        more: Lines of the head.
    """
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n{more}\r\n"
    )
    return head.encode() + body
