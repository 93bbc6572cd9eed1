"""A model of several inputs and outputs of many datatypes, from its artifact to both protocols.

It is published as anybody may publish a model, computed by a program that the artifact brings along
in a replica that is a process of its own, and compared with NumPy.
"""

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import NamedTuple

import grpc
import numpy as np
import pytest

from models.network import Framework
from registry.artifact import VerifiedDescriptor, read_descriptor
from serving.client.errors import InferenceError
from serving.client.sync import InferenceClient
from serving.core.model import ServedModel, served_model
from serving.core.request import Answer, Call, Inputs, Protocol
from serving.core.signature import DTYPES
from serving.protocols.over_grpc.options import GrpcOptions
from serving.protocols.over_grpc.server import GrpcServer
from serving.protocols.over_http.config import HttpConfig
from serving.protocols.over_http.server import HttpServer
from serving.protocols.over_http.testing.running import PATIENCE_S, Running, in_thread
from serving.protocols.over_http.testing.running import Answer as HttpAnswer
from serving.replicas.connecting import connect
from serving.replicas.model import load_model
from serving.testing.local_engine import LocalEngine
from serving.testing.replica_process import ReplicaProcess, replica_process
from serving.testing.several_tensors import (
    INPUTS,
    LENGTH,
    OUTPUTS,
    examples,
    expected,
    publish_several,
)

MAX_BATCH = 8
LENGTHS = {"outputs": [{"name": "length"}]}
PLATFORMS: dict[Framework, str] = {"flax": "jax_stablehlo", "torch": "torch_export"}

Arrays = Mapping[str, np.ndarray]


class Gateway:
    """Both servers over one model and its replica."""

    def __init__(self, local: LocalEngine, model: ServedModel, replica: ReplicaProcess) -> None:
        self.grpc_address = ""
        self._local, self._model, self._replica = local, model, replica
        self._grpc = GrpcServer(local.engine, GrpcOptions())
        self._http = HttpServer(local.engine, HttpConfig())

    async def listen(self, host: str, port: int) -> str:
        """Connects to the replica and listens; the address is HTTP's."""
        address, token = self._replica.addresses[0], self._replica.token
        self._channel = await connect(address, token, lambda: None)
        self._local.serve(self._model, self._channel)
        self.grpc_address = await self._grpc.listen(host, 0)
        return await self._http.listen(host, port)

    async def stop(self, grace_s: float) -> None:
        """Ends both."""
        await self._grpc.stop(grace_s)
        await self._http.stop(grace_s)
        self._channel.close()


class Served(NamedTuple):
    """The model as one framework computes it.

    Attributes:
        platform: what its metadata says.
        model: what is known of it.
        http: the gateway, with the server of REST in front.
        grpc: a client of its other server.
    """

    platform: str
    model: ServedModel
    http: Running
    grpc: InferenceClient


@pytest.fixture(scope="module")
def descriptor(tmp_path_factory: pytest.TempPathFactory) -> VerifiedDescriptor:
    directory = tmp_path_factory.mktemp("registry") / "several"
    publish_several(directory)
    return read_descriptor(directory)


@pytest.fixture(scope="module", params=list(PLATFORMS))
def served(request: pytest.FixtureRequest, descriptor: VerifiedDescriptor) -> Iterator[Served]:
    framework: Framework = request.param
    model = served_model(descriptor, framework=framework, max_batch_size=MAX_BATCH)
    load = partial(load_model, model.directory, model.digest, framework, MAX_BATCH)
    with replica_process(load=load) as replica:

        def make() -> tuple[Gateway, LocalEngine]:
            local = LocalEngine([])
            return Gateway(local, model, replica), local

        with in_thread(make) as http, InferenceClient(http.server.grpc_address) as client:
            yield Served(PLATFORMS[framework], model, http, client)


def check(outputs: Arrays, inputs: Arrays) -> None:
    """Compares outputs with NumPy's, bit by bit: every operation is exact or rounded once."""
    wanted = expected(inputs)
    assert outputs.keys() <= wanted.keys()
    for name, array in outputs.items():
        assert (array.dtype, array.shape) == (wanted[name].dtype, wanted[name].shape), name
        np.testing.assert_array_equal(array, wanted[name], err_msg=name)


def test_metadata_is_the_artifacts_signature(served: Served) -> None:
    signature = [(name, datatype, (-1, *shape)) for name, datatype, _, shape in INPUTS]
    results = [(name, datatype, (-1, *shape)) for name, datatype, shape, _ in OUTPUTS]
    told = served.grpc.model_metadata("several")
    assert told.platform == served.platform
    assert told.properties["shorter_sequences"] == "ids, mask"
    assert [(t.name, t.datatype, tuple(t.shape)) for t in told.inputs] == signature
    assert [(t.name, t.datatype, tuple(t.shape)) for t in told.outputs] == results
    page = served.http.ask("GET", "/v2/models/several").json
    assert page["platform"] == served.platform
    for kind, tensors in (("inputs", signature), ("outputs", results)):
        assert [(t["name"], t["datatype"], tuple(t["shape"])) for t in page[kind]] == tensors


@pytest.mark.parametrize(("batch", "length"), [(1, LENGTH), (3, 2), (MAX_BATCH, 5)])
def test_grpc_answers_as_numpy_does(served: Served, batch: int, length: int) -> None:
    inputs = examples(batch, length)
    outputs = served.grpc.infer("several", inputs).outputs
    assert list(outputs) == [name for name, *_ in OUTPUTS]
    check(outputs, inputs)


def test_each_sequence_has_its_own_length(served: Served) -> None:
    inputs = examples(2, 4) | {"mask": examples(2, LENGTH)["mask"]}
    outputs = served.grpc.infer("several", inputs, outputs=["embedded", "kept"]).outputs
    assert outputs["embedded"].shape[:2] == (2, 4)
    assert outputs["kept"].shape == (2, LENGTH)


@pytest.mark.parametrize("length", [1, LENGTH])
def test_rest_with_binary_tensors_answers_as_numpy_does(served: Served, length: int) -> None:
    inputs = examples(2, length)
    check(_rest(served, inputs, binary=set(inputs)), inputs)


def test_rest_takes_json_where_a_datatype_has_a_form_in_it(served: Served) -> None:
    inputs = examples(2, 3)
    outputs = _rest(served, inputs, binary={"brain", "half"})
    assert outputs.keys() == {name for name, *_ in OUTPUTS}
    check(outputs, inputs)


def test_requests_of_all_lengths_share_batches(served: Served) -> None:
    requests = [examples(1 + i % 2, 1 + i % LENGTH, seed=i) for i in range(12)]
    names = tuple(name for name, *_ in OUTPUTS)

    async def ask(inputs: Arrays) -> Answer:
        deadline = time.monotonic() + PATIENCE_S
        call = Call(Protocol.GRPC, "several", "", "id", "client", 0, deadline)
        return await served.http.local.engine.infer(call, lambda _: Inputs(inputs, names))

    async def ask_all() -> list[Answer]:
        return await asyncio.gather(*map(ask, requests))

    answers = served.http.run(ask_all())
    for answer, inputs in zip(answers, requests, strict=True):
        check(answer.outputs, inputs)
    assert max(answer.timings.batch_size for answer in answers) > 2


def test_what_does_not_fit_is_refused_by_name(served: Served) -> None:
    with pytest.raises(InferenceError, match=r"missing input 'scale'; expected inputs: brain BF16"):
        served.grpc.infer("several", {n: a for n, a in examples(1).items() if n != "scale"})
    with pytest.raises(InferenceError, match="input 'ids' has datatype 'INT32'; expected INT64"):
        served.grpc.infer("several", examples(1) | {"ids": np.zeros((1, 2), np.int32)})
    no_strings = "input 'ids' has datatype 'BYTES'; expected INT64: no model here takes strings"
    with pytest.raises(InferenceError, match=no_strings):
        served.grpc.infer("several", examples(1) | {"ids": np.array([["a", "b"]])})
    texts = {"name": "ids", "datatype": "BYTES", "shape": [1, 2], "data": ["a", "b"]}
    others = [{"name": n, "datatype": d, "shape": [1, *s], "data": []} for n, d, _, s in INPUTS]
    tensors = [texts, *[tensor for tensor in others if tensor["name"] != "ids"]]
    answer = served.http.ask("POST", "/v2/models/several/infer", {"inputs": tensors} | LENGTHS)
    assert (answer.status, answer.error) == (400, no_strings)
    with pytest.raises(InferenceError, match=r"'ids' has shape \[1, 7\].* 1 may be shorter"):
        served.grpc.infer("several", examples(1) | {"ids": np.zeros((1, LENGTH + 1), np.int64)})
    with pytest.raises(InferenceError, match="differ in their batch"):
        served.grpc.infer("several", examples(2) | {"scale": np.zeros(1, np.float32)})


def test_finite_inputs_whose_answer_is_not_finite_are_refused(served: Served) -> None:
    large = examples(1) | {"ids": np.full((1, 2), 15), "mask": np.ones((1, 2), bool)}
    large["scale"] = np.full(1, 1e38, np.float32)
    wanted = "output 'embedded' of model 'several' is not finite for this input"
    with pytest.raises(InferenceError, match=wanted) as refused:
        served.grpc.infer("several", large)
    assert refused.value.code is grpc.StatusCode.INVALID_ARGUMENT
    status, _, body = _ask(served, large, binary=set(large))
    assert status == 400
    assert json.loads(body)["error"].startswith(wanted)
    # What is not asked for does no harm.
    with np.errstate(over="ignore"):
        check(served.grpc.infer("several", large, outputs=["kept", "length"]).outputs, large)


def _rest(served: Served, inputs: Arrays, binary: set[str]) -> dict[str, np.ndarray]:
    """The answer to a question in JSON and, of the tensors that are named, in bytes."""
    status, headers, body = _ask(served, inputs, binary)
    assert status == 200, body
    return _outputs(body, int(headers["inference-header-content-length"]))


def _ask(served: Served, inputs: Arrays, binary: set[str]) -> HttpAnswer:
    """Asks, by Python's own JSON."""
    tensors, tail = [], b""
    for name, datatype, _, _ in INPUTS:
        array = inputs[name]
        tensor = {"name": name, "datatype": datatype, "shape": array.shape}
        if name in binary:
            tensor["parameters"] = {"binary_data_size": array.nbytes}
            tail += array.tobytes()
        else:
            tensor["data"] = array.tolist()
        tensors.append(tensor)
    wanted = [{"name": name, "parameters": {"binary_data": name in binary}} for name, *_ in OUTPUTS]
    head = json.dumps({"inputs": tensors, "outputs": wanted}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    return served.http.ask("POST", "/v2/models/several/infer", head + tail, headers)


def _outputs(body: bytes, head: int) -> dict[str, np.ndarray]:
    outputs, start = {}, head
    for tensor in json.loads(body[:head])["outputs"]:
        dtype = DTYPES[tensor["datatype"]]
        if "data" in tensor:
            array = np.array(tensor["data"], dtype)
        else:
            end = start + tensor["parameters"]["binary_data_size"]
            array, start = np.frombuffer(body[start:end], dtype), end
        outputs[tensor["name"]] = array.reshape(tensor["shape"])
    assert start == len(body)
    return outputs
