"""DeepSpeed's JSON means here what it means there, and nothing of it is passed over in silence."""

import json
from pathlib import Path
from typing import Any

import pytest

from train.config.deepspeed import as_options, engine_config, read_deepspeed
from train.config.load import load_config
from train.config.schema import ConfigError, TrainConfig
from train.config.zero import OffloadConfig
from train.testing.example import PRESETS_DIR

_PRESET = PRESETS_DIR / "digits.yaml"


def _read(directory: Path, content: Any, world_size: int = 1) -> dict[str, Any]:
    path = directory / "deepspeed.json"
    path.write_text(json.dumps(content))
    return read_deepspeed(path, world_size)


def _loaded(overrides: dict[str, Any], *others: str) -> TrainConfig:
    return load_config(_PRESET, [*others, *as_options(overrides)])


@pytest.mark.parametrize("world_size", [1, 2])
def test_what_is_printed_gives_the_same_run(tmp_path: Path, world_size: int) -> None:
    config = _loaded(
        {
            "data.gradient_accumulation_steps": 4,
            "zero.stage": 3,
            "zero.sub_group_size": 1_000_000,
            "zero.offload_optimizer.device": "nvme",
            "zero.offload_optimizer.nvme_path": "/disk",
            "zero.offload_param.device": "cpu",
            "optimizer.max_grad_norm": 0.5,
        }
    )
    printed = json.loads(json.dumps(engine_config(config, world_size)))
    again = _loaded(_read(tmp_path, printed, world_size))
    assert again == config


def test_deepspeed_takes_what_is_printed() -> None:
    from deepspeed.runtime.config import DeepSpeedConfig

    config = _loaded({"zero.stage": 1, "data.gradient_accumulation_steps": 2})
    parsed = DeepSpeedConfig(engine_config(config, 1))
    assert parsed.train_batch_size == config.data.global_batch_size
    assert parsed.train_micro_batch_size_per_gpu == config.data.global_batch_size // 2
    assert parsed.zero_optimization_stage == 1


def test_every_key_has_its_meaning(tmp_path: Path) -> None:
    config = _loaded(
        _read(
            tmp_path,
            {
                "train_micro_batch_size_per_gpu": 4,
                "gradient_accumulation_steps": 3,
                "gradient_clipping": 0.25,
                "steps_per_print": 7,
                "zero_optimization": {"stage": 1, "offload_optimizer": {"device": "cpu"}},
                "fp16": {
                    "enabled": True,
                    "loss_scale": 0,
                    "initial_scale_power": 12,
                    "loss_scale_window": 500,
                    "hysteresis": 2,
                    "min_loss_scale": 4,
                },
                "bf16": {"enabled": False},
                "optimizer": {
                    "type": "AdamW",
                    "params": {"lr": 0.01, "betas": [0.8, 0.95], "eps": 1e-7, "weight_decay": 0.3},
                },
                "wall_clock_breakdown": False,
                "zero_allow_untested_optimizer": True,
            },
            world_size=2,
        )
    )
    assert (config.data.global_batch_size, config.data.gradient_accumulation_steps) == (24, 3)
    assert (config.zero.stage, config.zero.offload_optimizer) == (1, OffloadConfig(device="cpu"))
    assert (config.optimizer.max_grad_norm, config.run.log_every_steps) == (0.25, 7)
    scaling = config.precision.loss_scaling
    assert config.precision.dtype == "float16"
    assert (scaling.initial_scale, scaling.growth_interval) == (4096.0, 500)
    assert (scaling.hysteresis, scaling.min_scale) == (2, 4.0)
    adamw = config.optimizer.algorithm
    found = (adamw.learning_rate, adamw.beta1, adamw.beta2, adamw.epsilon, adamw.weight_decay)
    assert found == (0.01, 0.8, 0.95, 1e-7, 0.3)


def test_auto_is_what_our_configuration_says(tmp_path: Path) -> None:
    content = {
        "train_batch_size": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "zero_optimization": {"stage": "auto"},
        "optimizer": {"type": "AdamW", "params": {"lr": "auto", "weight_decay": 0.5}},
    }
    assert _read(tmp_path, content) == {
        "optimizer.name": "adamw",
        "optimizer.adamw.weight_decay": 0.5,
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "expected an object of DeepSpeed's keys, got"),
        ({"scheduler": {"type": "WarmupLR"}}, "scheduler: is not heeded here; remove it. Heeded"),
        ({"zero_optimization": {"stage": 2, "overlap_comm": True}}, "ion.overlap_comm: is not hee"),
        ({"zero_optimization": 2}, "zero_optimization: expected an object, got 2"),
        (
            {"zero_optimization": {"offload_optimizer": {"ratio": 0.5}}},
            "zero_optimization.offload_optimizer.ratio: is not heeded here; remove it. Heeded are",
        ),
        ({"fp16": {"enabled": True, "loss_scale": 128}}, "fp16.loss_scale: expected 0, as it is"),
        (
            {"fp16": {"enabled": True}, "bf16": {"enabled": True}},
            "fp16.enabled, bf16.enabled: expected one of them at most",
        ),
        (
            {"optimizer": {"type": "Lamb"}},
            "optimizer.type: expected one of adam, adamw, lion, got 'L",
        ),
        (
            {"optimizer": {"type": "Adam", "params": {"adam_w_mode": False}}},
            "optimizer.params.adam_w_mode: expected true, as it is here, got False",
        ),
        ({"optimizer": {"type": "Lion", "params": {"eps": 1}}}, "optimizer.params.eps: is not he"),
        ({"optimizer": {"type": "Lion", "params": {"betas": 1}}}, "betas: expected two numbers"),
        (
            {"train_batch_size": 64, "train_micro_batch_size_per_gpu": 5},
            "train_batch_size: expected train_micro_batch_size_per_gpu (5) x",
        ),
        ({"train_batch_size": 0}, "train_batch_size: expected a whole number from 1 up, got 0"),
        ({"steps_per_print": True}, "steps_per_print: expected a whole number from 1 up, got True"),
        ({"gradient_clipping": "1"}, "gradient_clipping: expected a number, got '1'"),
    ],
)
def test_what_is_not_heeded_is_refused_by_name(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        _read(tmp_path, content)
    assert message in str(refused.value)


def test_all_that_is_not_heeded_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        _read(tmp_path, {"flops_profiler": {}, "comms_logger": {}})
    assert "flops_profiler: " in str(refused.value)
    assert "comms_logger: " in str(refused.value)


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "deepspeed.json"
    with pytest.raises(ConfigError, match="cannot read .*: No such file"):
        read_deepspeed(path, 1)
    path.write_text("{")
    with pytest.raises(ConfigError, match="is not valid JSON: "):
        read_deepspeed(path, 1)
