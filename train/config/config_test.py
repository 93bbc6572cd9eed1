"""Configuration files: the presets are valid, and each mistake gets a line of its own."""

import math
import re
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from optim.registry import ALGORITHMS
from train.config.load import load_config
from train.config.schema import ConfigError, TrainConfig
from train.testing.example import PRESETS_DIR

PRESETS = sorted(PRESETS_DIR.glob("*.yaml"))
DIGITS = PRESETS_DIR / "digits.yaml"
MIXTURE = PRESETS_DIR / "mixture.yaml"


def _preset() -> dict:
    return load_config(DIGITS).model_dump()


def _write(path: Path, content: object) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def _nvme(section: str) -> list[str]:
    return [f"zero.{section}.device=nvme", f"zero.{section}.nvme_path=/disk"]


def _refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert str(path) in str(error.value)
    return str(error.value)


def test_there_are_presets() -> None:
    assert DIGITS in PRESETS


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_preset_is_valid_and_says_how_to_run_it(path: Path) -> None:
    load_config(path)
    header = path.read_text().partition("\nartifact:")[0]
    for framework in ("flax", "torch"):
        assert re.search(rf"//train:{framework} -- --config config/{path.name}\s", header)
    assert all(line.startswith("#") for line in header.splitlines())


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("run", "seed", -1, "run.seed: input should be greater than or equal to 0, got -1"),
        ("run", "num_step", 5, "run.num_step: unknown key, did you mean 'num_steps'?"),
        ("run", "num_steps", "many", "run.num_steps: input should be a valid integer, got 'many'"),
        ("run", "num_steps", True, "run.num_steps: input should be a valid integer, got True"),
        ("data", "source", "cifar", "data.source: input should be 'digits'"),
        ("data", "augment", [1], "data.augment: expected a section of keys, got [1]"),
        (
            "data",
            "augment",
            {"cutout_pixels": 8},
            "data.augment: cutout_pixels 8 can leave not",
        ),
        ("data", "augment", {"crop_padding": 9}, "images of 8 x 8 pixels; expected less than 8"),
        (
            "data",
            "pad_to_multiple_of",
            8,
            "data.pad_to_multiple_of: data.source 'digits' has ",
        ),
        ("data", "mixup_alpha", 0.0, "data.mixup_alpha: input should be greater than 0, got 0.0"),
        ("data", "group_by_length", True, "data.group_by_length: data.source 'digits' has images "),
        ("optimizer", "name", "adam", "optimizer.name: input should be 'adabelief', 'adamw', 'ad"),
        ("optimizer", "max_grad_norm", 0.0, "optimizer.max_grad_norm: input should be greater th"),
        (
            "optimizer",
            "max_grad_value",
            -1.0,
            "optimizer.max_grad_value: input should be greater ",
        ),
        ("data", "gradient_accumulation_steps", 0, "accumulation_steps: input should be greater "),
        ("optimizer", "lion", {"beta2": 1.0}, "optimizer.lion.beta2: input should be less than 1"),
        ("optimizer", "adan", {"weight_decay": math.inf}, "adan.weight_decay: input should be a f"),
        ("optimizer", "adamw", {"learning_rate": 0.0}, "adamw.learning_rate: expected more than 0"),
        ("optimizer", "sophia", {"rho": 0.1}, "optimizer.sophia.rho: unknown key (accepted: lear"),
        ("schedule", "kind", "cosine", "schedule.kind: input should be 'warmup_cosine', 'warmup_"),
        ("run", "num_steps", "1:30", "run.num_steps: input should be a valid integer, got '1:30'"),
        ("run", "num_steps", 1.0, "run.num_steps: input should be a valid integer, got 1.0"),
        ("run", "num_steps", 1e3, "run.num_steps: input should be a valid integer, got 1000.0"),
        ("run", "num_steps", 10**12, "num_steps: input should be less than or equal to 2147483647"),
        ("run", "seed", 2**63, "run.seed: input should be less than 9223372036854775808, got 9223"),
        ("run", "seed", 10**900, "run.seed: input should be less than 9223372036854775808, got 10"),
        ("run", "log_every_steps", 10**9, "log_every_steps: input should be less than or equal t"),
        ("data", "global_batch_size", 10**20, "global_batch_size: input should be less than or e"),
        ("data", "global_batch_size", True, "global_batch_size: input should be a valid integer"),
        ("torch", "num_threads", 10**20, "torch.num_threads: input should be less than or equal"),
        ("loss", "label_smoothing", False, "label_smoothing: input should be a valid number, got"),
        ("optimizer", "max_grad_norm", True, "max_grad_norm: input should be a valid number, got"),
        ("optimizer", "adamw", {"learning_rate": 1e300}, "adamw.learning_rate: expected 0 or a nu"),
        ("optimizer", "lion", {"weight_decay": 1e39}, "optimizer.lion.weight_decay: expected 0 or"),
        ("optimizer", "adamw", {"epsilon": 1e-320}, "optimizer.adamw.epsilon: expected 0 or a num"),
        ("optimizer", "adamw", {"beta2": 0.999999999}, "adamw.beta2: expected at most 0.99999994"),
        ("optimizer", "adamw", {"state_bits": True}, "adamw.state_bits: expected an integer, got "),
        ("optimizer", "adamw", {"state_bits": 8.0}, "state_bits: expected an integer, got 8.0"),
        ("zero", "stage", True, "zero.stage: expected an integer, got True"),
        ("zero", "stage", 1.0, "zero.stage: expected an integer, got 1.0"),
        ("gradient_compression", "block_size", 256.0, "block_size: expected an integer, got 256.0"),
        ("gradient_compression", "enabled", "yes", "enabled: input should be a valid boolean, got"),
        ("zero", "stage", 4, "zero.stage: input should be 0, 1, 2 or 3, got 4"),
        (
            "optimizer",
            "adan",
            {"state_bits": 4},
            "optimizer.adan.state_bits: input should be 8 or 32",
        ),
        ("gradient_compression", "enabled", 1, "enabled: input should be a valid boolean, got 1"),
        ("gradient_compression", "format", "int4", "format: input should be 'int8', 'float8_e4m3"),
        ("gradient_compression", "block_size", 100, "block_size: input should be 64, 128, 256, "),
        ("gradient_compression", "rounding", "up", "rounding: input should be 'nearest' or "),
        ("gradient_compression", "min_size", -1, "min_size: input should be greater than or equ"),
        ("gradient_compression", "bucket_bytes", 64, "bucket_bytes: input should be greater than"),
        ("gradient_compression", "ranks_per_node", 0, "ranks_per_node: input should be greater "),
        ("gradient_compression", "bits", 8, "gradient_compression.bits: unknown key (accepted: "),
        ("artifact", "name", "Digits!", "artifact.name: expected at most 63 lower-case letters"),
        ("artifact", "version", "1.0", "artifact.version: expected a semantic version"),
        (
            "callbacks",
            "profiler",
            {"first_step": 1001},
            "callbacks.profiler.first_step: expected at most run.num_steps (1000), got 1001",
        ),
        ("schedule", "warmup_steps", 10**6, "schedule.warmup_steps: expected less than run.num"),
    ],
)
def test_refuses(tmp_path: Path, section: str, key: str, value: object, message: str) -> None:
    content = _preset()
    content.setdefault(section, {})[key] = value
    assert message in _refusal(_write(tmp_path / "run.yaml", content))


def test_refuses_a_mistake_deep_inside_a_section(tmp_path: Path) -> None:
    content = _preset()
    content["model"]["config"]["input"]["patches"]["patch_size"] = 3
    message = _refusal(_write(tmp_path / "run.yaml", content))
    assert "model.config.input.patches: image_size 8 is not a multiple of patch_size 3" in message


@pytest.mark.parametrize(
    ("overrides", "given"),
    [(["run.num_epochs=2"], "both"), (["run.num_steps="], "neither")],
)
def test_a_run_is_as_long_as_one_key_says(overrides: list[str], given: str) -> None:
    with pytest.raises(ConfigError, match=f"run: expected one of num_steps and num_ep.*{given}"):
        load_config(DIGITS, overrides)
    config = load_config(DIGITS, ["run.num_steps=", "run.num_epochs=2"])
    assert (config.run.num_steps, config.run.num_epochs) == (None, 2)


@pytest.mark.parametrize(
    "path",
    [
        "callbacks.early_stopping.metric",
        "callbacks.reduce_on_plateau.metric",
        "checkpoint.keep_best_metric",
    ],
)
def test_refuses_a_metric_that_these_examples_do_not_have(path: str) -> None:
    few = ["data.options.num_classes=4", "model.config.num_classes=4"]
    with pytest.raises(ConfigError) as refused:
        load_config(MIXTURE, [*few, f"{path}=top5_accuracy"])
    assert f"{path}: expected one of accuracy, loss_nats, calibration_error, " in str(refused.value)
    load_config(MIXTURE, [f"{path}=top5_accuracy"])


def test_what_is_held_out_is_measured() -> None:
    content = _preset()
    content["evaluation"] = {"validation_fraction": 0.1}
    with pytest.raises(
        ValueError, match=r"validation_fraction: .* evaluation\.every_steps beside it"
    ):
        TrainConfig.model_validate(content)


def test_a_loss_scale_starts_no_lower_than_it_may_fall() -> None:
    with pytest.raises(ConfigError, match=r"min_scale: expected at most initial_scale \(8"):
        load_config(
            DIGITS,
            ["precision.loss_scaling.initial_scale=8", "precision.loss_scaling.min_scale=16"],
        )


def test_refuses_a_model_that_does_not_fit_the_data(tmp_path: Path) -> None:
    content = _preset()
    content["model"]["config"]["num_classes"] = 11
    message = _refusal(_write(tmp_path / "run.yaml", content))
    assert (
        "  model.config: for data.source 'digits': gives [11], but task 'classification' needs "
        "[10]\n"
    ) in f"{message}\n"


def test_lists_all_mistakes_one_a_line(tmp_path: Path) -> None:
    content = _preset()
    content["run"]["seed"] = "x"
    content["data"]["colour"] = 1
    del content["model"]
    lines = _refusal(_write(tmp_path / "run.yaml", content)).splitlines()
    assert len(lines) == 4
    assert lines[1].startswith("  run.seed: ")
    assert lines[2] == "  model: missing, but required"
    assert lines[3].startswith("  data.colour: unknown key (accepted: source, ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run: {seed: 1}\nrun: {seed: 2}\n", "key 'run' is given twice"),
        ("run: [1", "not valid YAML"),
        ("", "holds no sections; expected artifact, run, model"),
        ("- run", "holds no sections"),
        ("run: \udcff", "not valid YAML: expected UTF-8"),
        ("run: \0", "special characters are not allowed"),
        ("run: {}\n---\nrun: {}", "expected a single document"),
        (
            "run: {seed: " + "9" * 5000 + "}",
            "run.seed: an integer of 5,000 digits; expected at mos",
        ),
        ("run: {seed: " + "[" * 3000, "nested deeper than 32 levels"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nrun: *b", "is not a training configuration"),
    ],
)
def test_refuses_text_that_is_no_configuration(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert message in _refusal(path)


def test_refuses_a_missing_file_and_a_directory(tmp_path: Path) -> None:
    assert "No such file" in _refusal(tmp_path / "absent.yaml")
    assert "Is a directory" in _refusal(tmp_path)


def test_reads_no_more_of_a_file_than_a_configuration_has(tmp_path: Path) -> None:
    assert "expected a file of at most 524,288 bytes" in _refusal(Path("/dev/zero"))
    sparse = tmp_path / "run.yaml"
    with sparse.open("wb") as file:
        file.truncate(5 * 10**9)
    assert "expected a file of at most 524,288 bytes" in _refusal(sparse)


def _numbers(section: dict, path: str = "") -> list[str]:
    found = []
    for key, value in section.items():
        if isinstance(value, dict):
            found += _numbers(value, f"{path}{key}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found.append(path + key)
    return found


@pytest.mark.parametrize("key", _numbers(_preset()))
@pytest.mark.parametrize("value", ["true", "false"])
def test_booleans_are_no_numbers(key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=key):
        load_config(DIGITS, [f"{key}={value}"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("run.num_steps=1:30", "run.num_steps: input should be a valid integer, got '1:30'"),
        ("run.num_steps=1_000", "run.num_steps: input should be a valid integer, got '1_000'"),
        ("zero.stage=true", "zero.stage: expected an integer, got True"),
        ("zero.offload_optimizer=yes", "offload_optimizer: expected a section of keys, got 'yes'"),
        ("optimizer.adamw.learning_rate=.nan", "learning_rate: input should be a finite number"),
    ],
)
def test_yaml_1_2_holds_for_overrides(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(DIGITS, [override])
    assert message in str(error.value)


def test_a_leading_zero_is_no_octal() -> None:
    assert load_config(DIGITS, ["run.num_steps=0150"]).run.num_steps == 150


def test_overrides_replace_values_of_the_file() -> None:
    config = load_config(DIGITS, ["run.seed=7", "zero.stage=2", "data.augment="])
    expected = _preset()
    expected["run"]["seed"] = 7
    expected["zero"]["stage"] = 2
    expected["data"]["augment"] = None
    assert config == TrainConfig.model_validate(expected)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("run.seed=x", "\n  run.seed: input should be a valid integer, got 'x'"),
        (
            "zero.stag=1",
            "\n  zero.stag: unknown key, did you mean 'stage'? (accepted: stage, sub_grou",
        ),
        ("zeroo.stage=1", "\n  zeroo: unknown key, did you mean 'zero'? (accepted: artifact, "),
        ("run.log_every_steps.x=1", "log_every_steps is 50, which holds no keys"),
        ("zero=2", "\n  zero: expected a section of keys, got 2"),
        ("run.num_steps=50", "schedule.warmup_steps: expected less than run.num_steps (50)"),
    ],
)
def test_refuses_overrides_naming_them(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(DIGITS, [override])
    assert message in str(error.value)
    assert f"--set {override}" in str(error.value)


def test_refuses_a_malformed_override() -> None:
    with pytest.raises(ConfigError, match=r"^--set run\.seed: expected key\.path=value"):
        load_config(DIGITS, ["run.seed"])


def test_digest_changes_with_any_value_and_with_nothing_else(tmp_path: Path) -> None:
    content = _preset()
    config = TrainConfig.model_validate(content)
    reordered = dict(reversed(content.items()))
    assert TrainConfig.model_validate(reordered).digest == config.digest
    content["optimizer"]["lion"]["weight_decay"] += 1e-9
    assert TrainConfig.model_validate(content).digest != config.digest


def test_every_optimizer_of_the_registry_can_be_named() -> None:
    content = _preset()
    assert content["optimizer"].keys() == {"name", "max_grad_norm", "max_grad_value", *ALGORITHMS}
    for name, kind in ALGORITHMS.items():
        content["optimizer"]["name"] = name
        assert type(TrainConfig.model_validate(content).optimizer.algorithm) is kind


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["zero.offload_optimizer.device=cpu", "zero.stage=0"],
            "zero: offload_optimizer.device: needs a stage of 1, 2 or 3, got 0",
        ),
        (
            [*_nvme("offload_optimizer"), "zero.stage=2"],
            "zero: offload_optimizer.device: nvme needs stage 3, got 2",
        ),
        (
            ["zero.offload_param.device=cpu", "zero.stage=1"],
            "zero: offload_param.device: cpu needs stage 3, got 1",
        ),
        (
            ["zero.offload_param.device=nvme", "zero.stage=3"],
            "zero.offload_param: nvme_path: expected the absolute path of a directory, as device "
            "is 'nvme', got None",
        ),
        (
            ["zero.offload_param.device=nvme", "zero.offload_param.nvme_path=disk"],
            "zero.offload_param: nvme_path: expected the absolute path of a directory, as device "
            "is 'nvme', got 'disk'",
        ),
        (
            ["zero.offload_optimizer.nvme_path=/disk"],
            "zero.offload_optimizer: nvme_path: is heeded if device is 'nvme', which is 'none'",
        ),
        (
            [*_nvme("offload_optimizer"), "zero.stage=3", "optimizer.adamw.state_bits=8"],
            "zero.offload_optimizer.device: nvme takes state in 32 bits; expected "
            "optimizer.adamw.state_bits 32, got 8",
        ),
        (
            [*_nvme("offload_optimizer"), "zero.stage=3", "optimizer.name=sophia"],
            "zero.offload_optimizer.device: optimizer 'sophia' reports of its state between steps",
        ),
        (
            [*_nvme("offload_param"), "zero.stage=3", "ema.decay=0.9"],
            "zero.offload_param.device: the moving average follows weights in memory",
        ),
    ],
)
def test_refuses_what_cannot_be_offloaded(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(DIGITS, overrides)
    assert message in str(error.value)


def test_cannot_be_changed() -> None:
    config = TrainConfig.model_validate(_preset())
    with pytest.raises(ValidationError, match="frozen"):
        config.run.seed = 1
