"""What trainers publish beside weights: programs, a model card, and where the model comes from.

A model of each framework is trained for a few steps, the second from the weights of the first.
Programs are then loaded in processes that have neither the networks nor the trainers, by the code
that the model card itself has.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
import yaml
from hpc.artifact.v1 import artifact_pb2

from models.network import Framework
from registry.artifact import load, read_payload, verify
from registry.programs.probe import check_probe
from registry.programs.program import load_program, program_names
from serving.predictor import predictor
from train import train_flax, train_torch
from train.checkpoint.beginning import Beginning
from train.config.schema import TrainConfig
from train.testing.example import short_config

NAMES = ["stablehlo", "torch_export"]

# Of programs and networks, as tests/programs_test.py has it.
TOLERANCE = 1e-6


class Trained(NamedTuple):
    """A run that has ended."""

    config: TrainConfig
    run: Path
    artifact: Path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[Framework, Trained]:
    directory = tmp_path_factory.mktemp("runs")
    config = short_config(num_steps=2, artifact={"programs": NAMES})
    first = train_flax.train(config, directory / "first run")
    beginning = Beginning(init_from=first.directory)
    second = train_torch.train(config, directory / "second", beginning=beginning)
    return {
        "flax": Trained(config, directory / "first run", first.directory),
        "torch": Trained(config, directory / "second", second.directory),
    }


@pytest.fixture(params=["flax", "torch"])
def one(request: pytest.FixtureRequest, trained: dict[Framework, Trained]) -> Trained:
    """Of each framework in turn."""
    return trained[request.param]


def test_either_framework_publishes_both_programs(one: Trained) -> None:
    loaded = load(one.artifact)
    assert program_names(loaded.artifact) == NAMES
    inputs = one.config.data.load().test.inputs[5:8]
    expected = predictor(loaded, "torch")(inputs)
    for name in NAMES:
        assert check_probe(loaded, name) <= TOLERANCE
        outputs = load_program(loaded, name)({"image": inputs})
        np.testing.assert_allclose(outputs["logits"], expected, rtol=0, atol=TOLERANCE)


def test_the_configuration_is_the_one_that_is_digested(one: Trained) -> None:
    loaded = load(one.artifact)
    content = read_payload(loaded, "training_config.json")
    digest = hashlib.sha256(content).hexdigest()
    assert digest == loaded.artifact.training_run.config_digest == one.config.digest
    assert TrainConfig.model_validate(json.loads(content)) == one.config


def test_lineage_names_the_run_and_the_parent(trained: dict[Framework, Trained]) -> None:
    first, second = (verify(trained[framework].artifact) for framework in ("flax", "torch"))
    assert not first.artifact.HasField("parent")
    assert first.artifact.training_run.run == "first run"
    assert second.artifact.training_run.run == "second"
    parent = artifact_pb2.Parent(name="digits", version="1.0.0", digest=first.digest)
    assert second.artifact.parent == parent
    assert f"of digits 1.0.0, SHA-256 `{first.digest}`" in _card(trained["torch"])


def test_classes_are_named_as_the_data_source_does(one: Trained) -> None:
    assert list(load(one.artifact).artifact.class_names) == list("0123456789")


def _card(one: Trained) -> str:
    return (one.artifact / "README.md").read_text()


def test_the_card_has_the_front_matter_of_the_hub(one: Trained) -> None:
    _, front_matter, _ = _card(one).split("---\n", 2)
    stated = yaml.safe_load(front_matter)
    artifact = load(one.artifact).artifact
    assert stated["datasets"] == ["digits"]
    assert stated["metrics"] == sorted(artifact.metrics)
    (index,) = stated["model-index"]
    (result,) = index["results"]
    assert index["name"] == "digits"
    found = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert found == dict(artifact.metrics)


# What loading a program may not import, or do: nobody's networks, and no pickle.
_GUARD = """
import pickle, sys

def refuse(*args, **kwargs):
    raise AssertionError(f"unpickled {args}")

class Refused(pickle.Unpickler):  # which PyTorch's modules inherit from
    __init__ = load = refuse

import torch, jax
pickle.load = pickle.loads = torch.load = torch._C._pickle_load_obj = refuse
pickle.Unpickler = pickle._Unpickler = Refused
events = []
sys.addaudithook(lambda event, args: events.append(args) if event == "pickle.find_class" else None)
"""
_VERDICT = """
assert not events, events
ours = {name.partition(".")[0] for name in sys.modules}
assert not ours & {"models", "kernels", "train", "serving", "data", "flax"}, sorted(ours)
"""


def _run(code: str, directory: Path, **environment: str) -> None:
    child = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=directory,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert child.returncode == 0, child.stderr


def test_programs_load_without_networks_and_without_pickle(
    trained: dict[Framework, Trained],
) -> None:
    code = """
from pathlib import Path
from registry.artifact import load
from registry.programs.probe import check_probe
loaded = load(Path("."))
for name in ("stablehlo", "torch_export"):
    assert check_probe(loaded, name) <= 1e-6
"""
    _run(_GUARD + code + _VERDICT, trained["flax"].artifact, PYTHONPATH=os.pathsep.join(sys.path))


def test_the_card_loads_programs_without_this_project(trained: dict[Framework, Trained]) -> None:
    one = trained["torch"]
    blocks = re.findall(r"```python\n(.*?)```", _card(one), re.DOTALL)
    without = [block for block in blocks if "registry" not in block]
    assert len(without) == len(NAMES)
    libraries = str(Path(jax.__file__).parent.parent)
    check = _VERDICT + 'assert not ours & {"registry", "base", "hpc"}\n'
    for block in without:
        _run(_GUARD + block + check, one.artifact, PYTHONPATH=libraries)


def test_the_card_loads_the_network_in_this_project(one: Trained) -> None:
    blocks = re.findall(r"```python\n(.*?)```", _card(one), re.DOTALL)
    (block,) = [block for block in blocks if "registry" in block]
    namespace: dict[str, Any] = {}
    exec(block.replace('"DIR"', repr(str(one.artifact))), namespace)
    logits = namespace["predict"](one.config.data.load().test.inputs[:2])
    assert logits.shape == (2, 10)
