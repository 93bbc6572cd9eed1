"""The model card states the facts of its artifact, as text, and the same for the same."""

import re
from collections.abc import Mapping

import numpy as np
import pytest
import yaml
from hpc.artifact.v1 import artifact_pb2

from registry.example import example_artifact, example_tensors
from train.config.schema import TrainConfig
from train.model_card import escaped, model_card
from train.testing.example import short_config

CONFIG = short_config(num_steps=1)


def _card(
    artifact: artifact_pb2.Artifact | None = None,
    config: TrainConfig = CONFIG,
    weights: Mapping[str, np.ndarray] | None = None,
) -> str:
    return model_card(artifact or example_artifact(), weights or example_tensors(), config)


def test_equal_facts_give_equal_bytes() -> None:
    assert _card() == _card()
    assert _card().endswith("\n") and not _card().endswith("\n\n")


def test_it_states_facts() -> None:
    card = _card()
    for fact in (
        "# digits 1.2.3",
        "of 13 weights in 2 tensors, trained in Flax for the task `classification`",
        "| input | `image` | FP32 | any, 8, 8, 1 |",
        "| output | `logits` | FP32 | any, 10 |",
        "Measured on 360 held-out images of `digits`",
        "| `accuracy` | 0.97 | 0.95 to 0.98 |",
        "| `calibration_error` | 0.02 |  |",
        f"SHA-256 `{'a' * 64}`",
        f"SHA-256 `{'b' * 64}`",
        "| seed | 7 |",
        "| updates | 1,200 |",
        "| library jax | 0.10.2 |",
    ):
        assert fact in card


def test_its_front_matter_is_yaml_of_the_same_metrics() -> None:
    stated = yaml.safe_load(_card().split("---\n")[1])
    assert stated["library_name"] == "flax"
    (result,) = stated["model-index"][0]["results"]
    found = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert found == {"accuracy": 0.97, "calibration_error": 0.02}


def test_text_of_others_is_text() -> None:
    hostile = "](x) <script>|`# *\n---\n\x1b[2J"
    artifact = example_artifact()
    artifact.class_names.extend([hostile, "plain"])
    artifact.training_run.host = hostile
    artifact.training_run.run = hostile.replace("\n", "")
    artifact.training_run.library_versions[hostile] = hostile
    card, plain = _card(artifact), _card()
    assert "<script>" not in card
    assert "\x1b" not in card
    assert len(re.findall(r"^---$", card, re.MULTILINE)) == 2
    rows = [line for line in card.splitlines() if line.startswith("|")]
    assert len(rows) == len([line for line in plain.splitlines() if line.startswith("|")]) + 1


def test_escaped_text_is_on_one_line() -> None:
    assert escaped("a_b|c\n<d>") == r"a\_b\|c\\n\<d\>"


@pytest.mark.parametrize(
    ("commit", "dirty", "limit"),
    [("unknown", False, "is not known"), ("0" * 40, True, "had changes that are in no commit")],
)
def test_a_run_that_cannot_be_repeated_says_so(commit: str, dirty: bool, limit: str) -> None:
    artifact = example_artifact()
    assert "cannot be repeated" not in _card(artifact)
    artifact.training_run.git_commit, artifact.training_run.git_dirty = commit, dirty
    assert re.search(rf"^- .*{limit}.*cannot be repeated exactly", _card(artifact), re.MULTILINE)


def test_limits_are_those_of_the_artifact() -> None:
    artifact = example_artifact()
    card = _card(artifact)
    assert "- Of `calibration_error` no interval is known." in card
    assert "- Its outputs have no names of classes." in card
    assert "- It has no program" in card
    artifact.class_names.extend("ab")
    artifact.programs.add(format=artifact_pb2.PROGRAM_FORMAT_TORCH_EXPORT)
    card = _card(artifact)
    assert "Its outputs have no names" not in card
    assert "It has no program" not in card
    assert "torch.export.load" in card and "jax.export" not in card


def test_many_classes_are_counted() -> None:
    artifact = example_artifact()
    artifact.class_names.extend(f"class {number}" for number in range(130))
    assert "class 99, and 30 more." in _card(artifact)


def test_it_says_how_an_image_becomes_the_input() -> None:
    artifact = example_artifact()
    assert "An image" not in _card(artifact)
    artifact.image_preprocessing.CopyFrom(
        artifact_pb2.ImagePreprocessing(
            height=8,
            width=9,
            color_mode=artifact_pb2.COLOR_MODE_GREY,
            resampling=artifact_pb2.RESAMPLING_BOX,
            fit=artifact_pb2.FIT_PAD,
            scale=0.5,
            light_on_dark=True,
        )
    )
    assert (
        "grey, made light on dark, brought to 9 by 8 pixels (resampling: box, other proportions: "
        "pad), and each value v from 0 to 255 becomes `v * 0.5`." in _card(artifact)
    )
    artifact.image_preprocessing.mean.append(0.25)
    artifact.image_preprocessing.std.append(4)
    assert "becomes `(v * 0.5 - [0.25]) / [4.0]`." in _card(artifact)


def test_a_parent_is_named() -> None:
    artifact = example_artifact()
    artifact.parent.name, artifact.parent.version, artifact.parent.digest = (
        "base",
        "2.0.0",
        "c" * 64,
    )
    assert f"| first weights | of base 2.0.0, SHA-256 `{'c' * 64}`" in _card(artifact)
