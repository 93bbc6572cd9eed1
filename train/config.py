"""A training run as one immutable, checked value, mirrored one to one by a YAML file.

`config/digits_flax.yaml` shows every section. A file that asks for anything else is refused with
the path of each offending key, before any work is done.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from data import digits
from models.config import VisionTransformerConfig
from models.validation import explain
from registry.descriptor import MAX_NAME_LENGTH, NAME, SEMANTIC_VERSION
from train.yaml_loader import StrictLoader


class ConfigError(ValueError):
    """A configuration that cannot be used; the message lists every problem, one a line."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ArtifactConfig(_Section):
    """What the trained model is published as."""

    name: str
    version: str

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if len(name) > MAX_NAME_LENGTH or not NAME.fullmatch(name):
            raise ValueError(
                f"expected at most {MAX_NAME_LENGTH} lower-case letters and digits joined by "
                f"single '.', '_' or '-', got {name!r}"
            )
        return name

    @field_validator("version")
    @classmethod
    def _check_version(cls, version: str) -> str:
        if not SEMANTIC_VERSION.fullmatch(version):
            raise ValueError(f"expected a semantic version such as '1.0.0', got {version!r}")
        return version


class RunConfig(_Section):
    """How long to train, from which seed, and how often to say so."""

    seed: int = Field(ge=0, lt=2**63, description="of weights, order of data and augmentation")
    num_steps: int = Field(ge=1)
    log_every_steps: int = Field(default=100, ge=1)


class ModelConfig(_Section):
    """Which network."""

    architecture: Literal["vision_transformer"]
    config: VisionTransformerConfig


class AugmentConfig(_Section):
    """Limits of `data.augment.random_affine`."""

    max_shift_pixels: float = Field(ge=0)
    max_rotation_degrees: float = Field(ge=0, le=180)
    max_scale: float = Field(ge=0, lt=1)


class DataConfig(_Section):
    """What to learn from."""

    source: Literal["digits"]
    global_batch_size: int = Field(ge=1, description="examples in one optimizer update")
    augment: AugmentConfig | None = None


class LossConfig(_Section):
    """Cross-entropy, with `label_smoothing` of each target spread evenly over all classes."""

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)


class OptimConfig(_Section):
    """AdamW (https://arxiv.org/abs/1711.05101); vectors such as biases are not decayed."""

    algorithm: Literal["adamw"]
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.999, ge=0, lt=1)
    epsilon: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)


class ScheduleConfig(_Section):
    """The learning rate over time, see `optim.schedule.warmup_cosine`."""

    kind: Literal["warmup_cosine"]
    peak_learning_rate: float = Field(gt=0)
    warmup_steps: int = Field(ge=0)
    final_fraction: float = Field(default=0.0, ge=0, le=1)


class TorchConfig(_Section):
    """What only `//train:torch` heeds."""

    zero_stage: Literal[0, 1, 2, 3] = Field(default=0, description="what DeepSpeed partitions")
    num_threads: int | None = Field(default=None, ge=1, description="by default one a core")


class TrainConfig(_Section):
    """One training run, all of it."""

    artifact: ArtifactConfig
    run: RunConfig
    model: ModelConfig
    data: DataConfig
    loss: LossConfig = LossConfig()
    optim: OptimConfig
    schedule: ScheduleConfig
    torch: TorchConfig = TorchConfig()

    @model_validator(mode="after")
    def _check_sections_agree(self) -> Self:
        if self.schedule.warmup_steps >= self.run.num_steps:
            raise ValueError(
                f"schedule.warmup_steps: expected less than run.num_steps ({self.run.num_steps}), "
                f"got {self.schedule.warmup_steps}"
            )
        model = self.model.config
        if (model.image_shape, model.num_classes) != (digits.IMAGE_SHAPE, digits.NUM_CLASSES):
            raise ValueError(
                f"model.config: takes images {list(model.image_shape)} of {model.num_classes} "
                f"classes, but data.source 'digits' has images {list(digits.IMAGE_SHAPE)} of "
                f"{digits.NUM_CLASSES} classes"
            )
        return self

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of the configuration in canonical JSON; equal runs have equal ones."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def load_config(path: Path) -> TrainConfig:
    """Reads and checks a YAML file.

    Raises:
        ConfigError: The file is missing or not YAML, repeats a key, or has keys that are unknown,
            missing, of the wrong type or out of range.
    """
    content = _parse_yaml(path)
    try:
        return TrainConfig.model_validate(content)
    except ValidationError as error:
        problems = "".join(f"\n  {line}" for line in explain(error, TrainConfig))
        raise ConfigError(f"{path} is not a training configuration:{problems}") from error


def _parse_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), StrictLoader)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        sections = ", ".join(TrainConfig.model_fields)
        raise ConfigError(f"{path} holds no sections; expected {sections}")
    return content
