"""Programs are made before the first step, and held to the model after the last."""

from pathlib import Path

import numpy as np
import pytest

from models.network import ExportError
from models.torch.predict import predict_fn
from models.weights import Weights, init_weights
from registry.artifact import load
from registry.programs.program import program_names
from train import portable
from train.checkpoint.run_directory import DESCRIPTION
from train.config.load import load_config
from train.config.schema import ConfigError, TrainConfig
from train.launch.process_group import join_alone
from train.portable import Portable, checked, make_programs
from train.testing.example import PRESETS_DIR, publish_untrained, short_config
from train.train_torch import train

CONFIG = short_config(num_steps=2, artifact={"programs": ["torch_export"]})


@pytest.fixture(scope="module")
def programs() -> dict[str, bytes]:
    return make_programs(CONFIG)


def _checked(
    programs: dict[str, bytes], weights: Weights, warnings: list[str], directory: Path
) -> Portable:
    """Holds programs with one model's weights to the model of the seed 0."""
    artifact = publish_untrained(CONFIG, weights, directory).artifact
    model = predict_fn(CONFIG.model, init_weights(CONFIG.model, seed=0))
    examples = np.random.default_rng(0).random((9, 8, 8, 1)).astype(np.float32)
    return checked(programs, artifact, weights, examples, model, "torch", warnings.append)


def test_programs_that_predict_what_the_model_does_are_kept(
    programs: dict[str, bytes], tmp_path: Path
) -> None:
    warnings: list[str] = []
    weights = init_weights(CONFIG.model, seed=0)
    kept = _checked(programs, weights, warnings, tmp_path / "artifact")
    assert [program.path for program in kept.programs] == ["programs/model.pt2"]
    assert kept.files.keys() == {"programs/model.pt2", "probe.safetensors"}
    assert not warnings


def test_one_that_predicts_otherwise_is_left_out_with_a_warning(
    programs: dict[str, bytes], tmp_path: Path
) -> None:
    warnings: list[str] = []
    weights = init_weights(CONFIG.model, seed=0)
    weights["head.bias"] = weights["head.bias"] + np.float32(0.1)
    assert _checked(programs, weights, warnings, tmp_path / "artifact") == Portable()
    (warning,) = warnings
    assert "published without its torch_export program" in warning
    assert "predicts otherwise" in warning


def test_a_network_that_cannot_be_a_program_is_refused_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(model: object) -> bytes:
        raise ExportError("the batch is fixed")

    monkeypatch.setitem(portable._EXPORTS, "torch_export", refuse)
    join_alone()
    with pytest.raises(ConfigError, match="artifact.programs: torch_export: the batch is fixed"):
        train(CONFIG, tmp_path / "run")
    assert not (tmp_path / "run" / DESCRIPTION).exists()


def test_each_program_is_asked_for_once() -> None:
    with pytest.raises(ConfigError, match="expected each program once"):
        load_config(PRESETS_DIR / "digits.yaml", ["artifact.programs=[stablehlo, stablehlo]"])


def test_a_run_goes_on_without_the_programs_that_it_began_with(tmp_path: Path) -> None:
    join_alone()
    published = train(CONFIG, tmp_path / "run")
    assert program_names(load(published.directory).artifact) == ["torch_export"]
    content = CONFIG.model_dump()
    content["artifact"]["programs"] = []
    again = train(TrainConfig.model_validate(content), tmp_path / "run")
    assert again == published
