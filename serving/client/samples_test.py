"""Random inputs fit the metadata that they are made from."""

import ml_dtypes
import numpy as np
import pytest
from inference import grpc_service_pb2 as oip

from serving.client.encoding import encode_request
from serving.client.samples import random_inputs
from serving.core.signature import DTYPES

INPUTS = {name: [-1, 3] for name in [*DTYPES, "BYTES"]}


def metadata(inputs: dict[str, list[int]]) -> oip.ModelMetadataResponse:
    """A model with one input for each datatype, with its name."""
    tensors = [{"name": name, "datatype": name, "shape": shape} for name, shape in inputs.items()]
    return oip.ModelMetadataResponse(name="m", inputs=tensors)


def sample(inputs: dict[str, list[int]], batch_size: int = 1) -> dict[str, np.ndarray]:
    return random_inputs(metadata(inputs), batch_size, np.random.default_rng(0))


def test_every_datatype_is_made_as_it_is_sent() -> None:
    arrays = sample(INPUTS, batch_size=5)
    request = oip.ModelInferRequest.FromString(encode_request("m", arrays))
    assert {t.name: (t.datatype, list(t.shape)) for t in request.inputs} == {
        name: (name, [5, 3]) for name in INPUTS
    }
    assert arrays["BF16"].dtype == ml_dtypes.bfloat16
    for name, array in arrays.items():
        if name != "BYTES":
            numbers = array.astype(np.float64)
            assert ((numbers >= 0) & (numbers <= 1)).all()
            assert len(np.unique(numbers)) > 1, name
        else:
            assert all(len(string) == 8 and string.isalpha() for string in array.ravel())


def test_dimensions_of_any_size_are_one_but_the_batch() -> None:
    assert sample({"FP32": [-1, -1, 4]}, batch_size=7)["FP32"].shape == (7, 1, 4)
    assert sample({"FP32": [2, -1]})["FP32"].shape == (2, 1)
    assert sample({"FP32": []})["FP32"].shape == ()


def test_requests_differ() -> None:
    rng = np.random.default_rng(0)
    first, second = (random_inputs(metadata({"FP32": [-1, 8]}), 1, rng) for _ in range(2))
    assert (first["FP32"] != second["FP32"]).any()


@pytest.mark.parametrize(
    ("inputs", "batch_size", "message"),
    [
        ({}, 1, "model 'm' tells no inputs"),
        ({"FP8": [1]}, 1, "input 'FP8' has datatype 'FP8'; give a file"),
        ({"FP32": [4, 2]}, 3, r"input 'FP32' has shape \[4, 2\], and so no batch of 3"),
    ],
)
def test_what_cannot_be_made_is_named(
    inputs: dict[str, list[int]], batch_size: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        sample(inputs, batch_size)
