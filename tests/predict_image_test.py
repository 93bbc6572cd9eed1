"""From a data set to `/predict`: to a model, a picture of an example is what the example is."""

import base64
import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from registry.artifact import load, read_descriptor
from serving.core.model import served_model
from serving.protocols.over_http.testing.running import Running, running
from serving.replicas.network import compute_of
from train import train_torch
from train.testing.example import short_config

# Enough that the model tells most digits apart.
CONFIG = short_config(num_steps=120)
EXAMPLES = CONFIG.data.load().test
COUNT = 50

# Pixels of pictures are whole numbers from 0 to 255, which examples are not.
PROBABILITY_ATOL = 0.02
SIZES = (8, 16, 40, 280)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Serves what training publishes."""
    directory = train_torch.train(CONFIG, tmp_path_factory.mktemp("runs") / "run").directory
    model = served_model(read_descriptor(directory), max_batch_size=COUNT)
    with running((model, compute_of(load(directory), "torch", [COUNT]))) as here:
        yield here


@pytest.fixture(scope="module")
def logits(server: Running) -> np.ndarray:
    """Of the arrays of the data set, as the protocol gives them."""
    array = EXAMPLES.inputs[:COUNT]
    tensor = {"name": "image", "datatype": "FP32", "shape": list(array.shape)}
    name = CONFIG.artifact.name
    body = {"inputs": [tensor | {"data": array.ravel().tolist()}]}
    (output,) = server.ask("POST", f"/v2/models/{name}/infer", body).json["outputs"]
    return np.array(output["data"]).reshape(output["shape"])


def png_of(example: np.ndarray, size: int, *, inverted: bool = False) -> str:
    """A picture of an example, each pixel a square, in base64."""
    levels = np.rint(example[..., 0] * 255).astype(np.uint8)
    levels = 255 - levels if inverted else levels
    file = io.BytesIO()
    image = Image.fromarray(levels).resize((size, size), Image.Resampling.NEAREST)
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_the_model_tells_digits_apart(logits: np.ndarray) -> None:
    assert np.mean(logits.argmax(axis=1) == EXAMPLES.targets[:COUNT]) > 0.8


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("inverted", [False, True])
def test_a_picture_of_an_example_has_its_class(
    server: Running, logits: np.ndarray, size: int, inverted: bool
) -> None:
    names = [str(digit) for digit in logits.argmax(axis=1)]
    for example, name, row in zip(EXAMPLES.inputs, names, logits, strict=False):
        request = {"image": png_of(example, size, inverted=inverted), "top_k": 10}
        answer = server.ask("POST", "/predict", request)
        (one,) = answer.json["predictions"]
        assert one["class"] == name
        odds = np.exp(row - row.max())
        expected = (odds / odds.sum())[[int(label) for label in one["classes"]]]
        np.testing.assert_allclose(one["probabilities"], expected, atol=PROBABILITY_ATOL)
        assert answer.json["image"] == {"width": size, "height": size, "inverted": inverted}
