"""What travels says what it should, by others' reading."""

import base64
import io
import json
from http.server import BaseHTTPRequestHandler

import numpy as np
from inference import grpc_service_pb2 as oip

from benchmarks.serving import wire
from benchmarks.serving.job import Job

_JOB = Job("digits", "mlp", {}, "weights.npz", "image", (2, 3), "logits", [])
_EXAMPLE = np.random.default_rng(0).random((2, 3), dtype=np.float32)


class _Read(BaseHTTPRequestHandler):
    """The standard library's reading of a request."""

    def __init__(self, request: bytes) -> None:
        self.rfile = io.BytesIO(request)
        self.raw_requestline = self.rfile.readline()
        assert self.parse_request()
        self.body = self.rfile.read(int(self.headers["Content-Length"]))
        assert not self.rfile.read()


def test_grpc() -> None:
    request = oip.ModelInferRequest.FromString(wire.grpc_request(_JOB, _EXAMPLE))
    (tensor,) = request.inputs
    assert (request.model_name, tensor.name, tensor.datatype) == ("digits", "image", "FP32")
    assert list(tensor.shape) == [1, 2, 3]
    assert request.raw_input_contents == [_EXAMPLE.tobytes()]
    answer = oip.ModelInferResponse(raw_output_contents=[_EXAMPLE.tobytes()])
    assert np.array_equal(wire.grpc_answer(answer.SerializeToString()), _EXAMPLE.ravel())


def test_no_two_are_alike() -> None:
    request = wire.grpc_request(_JOB, _EXAMPLE)
    sent = [wire.unlike(request, number) for number in (0, 1, 2**24 - 1)]
    contents = [oip.ModelInferRequest.FromString(one).raw_input_contents[0] for one in sent]
    assert len(set(contents)) == 3
    for content in contents:
        values = np.frombuffer(content, np.float32)
        assert np.array_equal(values[:-1], _EXAMPLE.ravel()[:-1]) and 0 <= values[-1] < 1


def test_binary() -> None:
    request = _Read(wire.oip_binary_request(_JOB, _EXAMPLE))
    assert (request.command, request.path) == ("POST", "/v2/models/digits/infer")
    length = int(request.headers["Inference-Header-Content-Length"])
    (tensor,) = json.loads(request.body[:length])["inputs"]
    assert tensor["parameters"] == {"binary_data_size": _EXAMPLE.nbytes}
    assert request.body[length:] == _EXAMPLE.tobytes()
    head = {"outputs": [{"name": "logits", "parameters": {"binary_data_size": _EXAMPLE.nbytes}}]}
    answer = json.dumps(head).encode() + _EXAMPLE.tobytes()
    assert np.array_equal(wire.oip_binary_answer(answer), _EXAMPLE.ravel())


def test_json_loses_no_bit() -> None:
    request = _Read(wire.oip_json_request(_JOB, _EXAMPLE))
    assert (request.command, request.path) == ("POST", "/v2/models/digits/infer")
    assert request.headers["Content-Type"] == "application/json"
    (tensor,) = json.loads(request.body)["inputs"]
    data = np.array(tensor.pop("data"), np.float32)
    assert tensor == {"name": "image", "datatype": "FP32", "shape": [1, 2, 3]}
    assert np.array_equal(data, _EXAMPLE.ravel())
    answer = json.dumps({"outputs": [{"data": data.tolist()}]}).encode()
    assert np.array_equal(wire.oip_json_answer(answer), _EXAMPLE.ravel())


def test_base64() -> None:
    request = _Read(wire.base64_request(_JOB, _EXAMPLE))
    assert request.path == "/predict"
    assert base64.b64decode(json.loads(request.body)["data"]) == _EXAMPLE.tobytes()


def test_bytes() -> None:
    request = _Read(wire.bytes_request("/single", _EXAMPLE))
    assert (request.path, request.body) == ("/single", _EXAMPLE.tobytes())
    assert np.array_equal(wire.bytes_answer(_EXAMPLE.tobytes()), _EXAMPLE.ravel())
