"""Conformance: a published client that is not ours understands the gateway.

The client lives in another interpreter process with other packages (triton_client_driver.py); the
command that runs it is in TRITON_CLIENT_DRIVER.
"""

import json
import os
import shlex
import subprocess
from typing import Any

import numpy as np
import pytest

from registry.artifact import LoadedArtifact
from serving.example import example_images, publish_example
from serving.gateway_process import START_S, processes_of, running
from serving.predictor import predictor

# The same program on the same processor; threads may split the sums differently.
FLOAT32_ATOL = 1e-5

BATCH = 3


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedArtifact:
    return publish_example(tmp_path_factory.mktemp("registry") / "artifact")


@pytest.fixture(scope="module")
def seen(loaded: LoadedArtifact, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the client saw."""
    images = tmp_path_factory.mktemp("images") / "images.npy"
    np.save(images, example_images(BATCH))
    driver = shlex.split(os.environ["TRITON_CLIENT_DRIVER"])
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    with running("--artifact", loaded.directory, "--replicas", 2) as gateway:
        commands = " ".join(processes_of(gateway.process.pid).values())
        assert commands.count("ray::ServeReplica") == 2
        result = subprocess.run(
            [*driver, gateway.address, "digits", images],
            capture_output=True,
            text=True,
            timeout=START_S,
            env=environment,
            check=False,
        )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("state", ["live", "ready", "model_ready"])
def test_state(seen: Any, state: str) -> None:
    assert seen[state] is True


def test_server_metadata(seen: Any) -> None:
    assert seen["server_metadata"]["name"] == "hpc-gateway"


def test_model_metadata(seen: Any) -> None:
    metadata = seen["model_metadata"]
    assert metadata["name"] == "digits"
    assert metadata["versions"] == ["1.2.3"]
    assert metadata["inputs"] == [
        {"name": "image", "datatype": "FP32", "shape": ["-1", "8", "8", "1"]}
    ]
    assert metadata["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": ["-1", "10"]}]


@pytest.mark.parametrize("answer", ["logits", "logits_aio"])
def test_answers_equal_the_model_in_process(seen: Any, loaded: LoadedArtifact, answer: str) -> None:
    expected = predictor(loaded)(example_images(BATCH))
    np.testing.assert_allclose(np.array(seen[answer]), expected, atol=FLOAT32_ATOL, rtol=0)


def test_response_repeats_model_version_and_id(seen: Any) -> None:
    response = seen["response"]
    assert response["model_name"] == "digits"
    assert response["model_version"] == "1.2.3"
    assert response["id"] == "request-7"
    assert response["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": ["3", "10"]}]


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("wrong_shape", "input 'image' has 3 dimensions"),
        ("wrong_name", "unexpected input 'picture'"),
        ("wrong_datatype", "input 'image' has datatype 'FP64'"),
        ("nan", "input 'image' has NaN or infinite values"),
    ],
)
def test_malformed_input_is_answered_with_the_signature(seen: Any, case: str, message: str) -> None:
    assert seen[case]["status"] == "StatusCode.INVALID_ARGUMENT"
    assert message in seen[case]["message"]
    assert "Expected inputs: image FP32 [-1, 8, 8, 1]" in seen[case]["message"]


def test_unknown_names_have_their_status(seen: Any) -> None:
    assert seen["unknown_model"]["status"] == "StatusCode.NOT_FOUND"
    assert seen["unknown_output"]["status"] == "StatusCode.INVALID_ARGUMENT"
    assert "Expected outputs: logits FP32 [-1, 10]" in seen["unknown_output"]["message"]
