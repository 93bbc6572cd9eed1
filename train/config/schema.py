"""A training run as one immutable, checked value, mirrored one to one by a YAML file.

`config/digits.yaml` shows every section. A file that asks for anything else is refused with
the path of each offending key, before any work is done.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    Field,
    SerializeAsAny,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)

from base.config import MAX_INTEGER, STRICT_INTEGER, Section, check_section, one_of
from models.architecture import Model
from optim.algorithm import Algorithm
from optim.registry import ALGORITHMS, DEFAULT
from registry.descriptor import MAX_NAME_LENGTH, NAME, SEMANTIC_VERSION
from registry.programs.formats import FORMATS
from train.config.callbacks import MAX_LOG_EVERY_STEPS, CallbacksConfig
from train.config.checkpoint import CheckpointConfig
from train.config.data import DataConfig
from train.config.ema import EmaConfig
from train.config.evaluation import EvaluationConfig
from train.config.precision import PrecisionConfig
from train.config.regularization import RegularizationConfig
from train.config.zero import ZeroConfig
from train.tasks.table import TASKS, check_targets

# Holds a block of every size.
MIN_BUCKET_BYTES = 4 * 4096

# Optimizers count steps in 32 bits.
MAX_STEPS = 2**31 - 1

# What a float32 holds with all its digits; a number beyond would become 0 or infinity on the way.
_LEAST_FLOAT, _GREATEST_FLOAT = 2.0**-126, 3.4028234663852886e38

# Between this and 1 a number would become 1: a rate that drops all, a decay that forgets nothing.
_GREATEST_BELOW_1 = 1 - 2.0**-24


class ConfigError(ValueError):
    """A configuration that cannot be used; the message lists every problem, one a line."""


class ArtifactConfig(Section):
    """What the trained model is published as."""

    name: str = Field(
        description=f"at most {MAX_NAME_LENGTH} of a-z, 0-9, joined by single '.', '_' or '-'"
    )
    version: str = Field(default="0.1.0", description="semantic version")
    programs: list[Annotated[str, one_of(FORMATS)]] = Field(
        default=[],
        description="as which the network is published beside its weights, so that it loads "
        "without this project's code; each once",
    )

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

    @field_validator("programs")
    @classmethod
    def _check_programs(cls, programs: list[str]) -> list[str]:
        if len(set(programs)) < len(programs):
            raise ValueError(f"expected each program once, got {programs}")
        return programs


class RunConfig(Section):
    """How long to train, from which seed, and how often to say so."""

    seed: int = Field(
        default=0,
        ge=0,
        lt=2**63,
        description="of weights, order of data, dropout and rounding",
    )
    num_steps: int | None = Field(
        default=None, ge=1, le=MAX_STEPS, description="optimizer updates; or else num_epochs"
    )
    num_epochs: int | None = Field(
        default=None,
        ge=1,
        le=MAX_STEPS,
        description="times that every training example comes; or else num_steps",
    )
    deterministic: bool = Field(
        default=False,
        description="take algorithms that give the same bits again on a GPU too, and refuse "
        "operations that have none; on a CPU all do",
    )
    log_every_steps: int = Field(
        default=100,
        ge=1,
        le=MAX_LOG_EVERY_STEPS,
        description="from report to report, each of means over them",
    )

    @model_validator(mode="after")
    def _check_length(self) -> Self:
        if (self.num_steps is None) == (self.num_epochs is None):
            given = "neither" if self.num_steps is None else "both"
            raise ValueError(
                f"expected one of num_steps and num_epochs, got {given}; leave the other one out, "
                "or set it to null"
            )
        return self


class _OptimizerConfig(Section):
    """Which optimizer trains; vectors, such as biases, do not decay.

    Each has a section of its own, so that one file can hold good values of several, and `name`
    alone chooses. Its learning rate is the highest one of the schedule.
    """

    name: Annotated[str, one_of(ALGORITHMS)] = Field(
        default=DEFAULT, description="which of the sections below trains"
    )
    max_grad_norm: float | None = Field(
        default=None, gt=0, description="longer gradients, of all weights, are shortened to this"
    )
    max_grad_value: float | None = Field(
        default=None,
        gt=0,
        description="larger numbers in gradients, of either sign, become this, once gradients are "
        "no longer than max_grad_norm",
    )

    @model_validator(mode="after")
    def _check_it_learns(self) -> Self:
        if self.algorithm.learning_rate == 0:
            raise ValueError(f"{self.name}.learning_rate: expected more than 0, got 0")
        return self

    @property
    def algorithm(self) -> Algorithm:
        """The one that `name` chooses."""
        algorithm: Algorithm = getattr(self, self.name)
        return algorithm


if TYPE_CHECKING:
    OptimizerConfig = _OptimizerConfig
else:
    OptimizerConfig = create_model(
        "OptimizerConfig",
        __base__=_OptimizerConfig,
        __module__=__name__,
        **{name: (kind, kind()) for name, kind in ALGORITHMS.items()},
    )


class ScheduleConfig(Section):
    """The learning rate over time, see `optim.schedule`."""

    kind: Literal[
        "warmup_cosine",
        "warmup_cosine_restarts",
        "warmup_linear",
        "warmup_polynomial",
        "warmup_stable_decay",
    ] = Field(default="warmup_cosine", description="how it falls after it has risen")
    warmup_steps: int = Field(
        default=0, ge=0, le=MAX_STEPS, description="in which it rises; fewer than the run has"
    )
    final_fraction: float = Field(
        default=0.0, ge=0, le=1, description="of the highest rate, at the end"
    )
    power: float = Field(default=2.0, gt=0, description="of warmup_polynomial")
    num_restarts: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="times that it is back at its highest; of warmup_cosine_restarts",
    )
    cycle_growth: float = Field(
        default=1.0,
        ge=1,
        le=10,
        description="by which each fall is longer than the one before; of warmup_cosine_restarts",
    )
    decay_fraction: float = Field(
        default=0.2, gt=0, le=1, description="of the steps after warm-up; of warmup_stable_decay"
    )


class GradientCompressionConfig(Section):
    """How gradients travel between ranks, see `comm.compression.Compression`."""

    enabled: bool = Field(default=False, description="whether they travel in 8 bits")
    format: Literal["int8", "float8_e4m3fn", "float8_e5m2"] = Field(
        default="int8", description="of a value on the way"
    )
    block_size: Annotated[Literal[64, 128, 256, 512, 1024, 2048, 4096], STRICT_INTEGER] = Field(
        default=256, description="values that share a scale"
    )
    rounding: Literal["nearest", "stochastic"] = Field(
        default="nearest", description="to the format"
    )
    error_feedback: bool = Field(
        default=True, description="whether what rounding takes is added to the next gradients"
    )
    min_size: int = Field(
        default=1024, ge=0, le=MAX_INTEGER, description="smaller tensors are sent as they are"
    )
    bucket_bytes: int = Field(
        default=4 * 2**20,
        ge=MIN_BUCKET_BYTES,
        le=MAX_INTEGER,
        description="of float32, sent at once",
    )
    ranks_per_node: int | None = Field(
        default=None,
        ge=1,
        le=MAX_INTEGER,
        description="ranks that exchange full precision among themselves; null: none do",
    )


class TorchConfig(Section):
    """How `//train:torch` uses the machine."""

    num_threads: int | None = Field(
        default=None, ge=1, le=MAX_INTEGER, description="of a rank; by default cores / ranks"
    )


class MemoryConfig(Section):
    """What is kept in memory from the way there for the way back."""

    checkpointing: Literal["none", "full", "attention"] = Field(
        default="none",
        description="what blocks compute again: nothing, all but their inputs, or all but what "
        "attention gave",
    )


class TrainConfig(Section):
    """One training run, all of it."""

    artifact: ArtifactConfig
    run: RunConfig
    model: Model
    data: DataConfig
    task: Annotated[str, one_of(TASKS)] = Field(
        default="classification", description="what is predicted, the loss and the metrics"
    )
    loss: SerializeAsAny[Section] = Field(
        default={}, validate_default=True, description="of the task"
    )
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    ema: EmaConfig = EmaConfig()
    precision: PrecisionConfig = PrecisionConfig()
    memory: MemoryConfig = MemoryConfig()
    regularization: RegularizationConfig = RegularizationConfig()
    gradient_compression: GradientCompressionConfig = GradientCompressionConfig()
    zero: ZeroConfig = ZeroConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    callbacks: CallbacksConfig = CallbacksConfig()
    torch: TorchConfig = TorchConfig()

    @field_validator("loss", mode="plain")
    @classmethod
    def _check_loss(cls, value: object, info: ValidationInfo) -> object:
        task = TASKS.get(info.data.get("task", ""))
        return value if task is None else check_section(task.loss, value)

    @model_validator(mode="after")
    def _check_sections_agree(self) -> Self:
        # Of epochs the number of steps is known once the examples are; see `train.recipe`.
        if self.run.num_steps is not None:
            self.check_length(self.run.num_steps, "run.num_steps")
        examples = self.data.describe()
        try:
            check_targets(self.task, self.data.source, examples)
        except ValueError as error:
            raise ValueError(f"task: {error}") from error
        try:
            TASKS[self.task].check(self.model.signature, examples)
        except ValueError as error:
            raise ValueError(
                f"model.config: for data.source {self.data.source!r}: {error}"
            ) from error
        return self

    @model_validator(mode="after")
    def _check_metrics(self) -> Self:
        measured = TASKS[self.task].directions(self.data.describe())
        asked = {
            "callbacks.early_stopping.metric": self.callbacks.early_stopping.metric,
            "callbacks.reduce_on_plateau.metric": self.callbacks.reduce_on_plateau.metric,
            "checkpoint.keep_best_metric": self.checkpoint.keep_best_metric,
        }
        for path, metric in asked.items():
            if metric is not None and metric not in measured:
                raise ValueError(
                    f"{path}: expected one of {', '.join(measured)}, which task {self.task!r} "
                    f"measures of data.source {self.data.source!r}, got {metric!r}"
                )
        on_the_way = self.judges_evaluations or self.evaluation.every_steps is not None
        if self.evaluation.validation_fraction is not None and not on_the_way:
            raise ValueError(
                "evaluation.validation_fraction: examples are held out for evaluation on the way; "
                "expected evaluation.every_steps beside it, or something that judges evaluations, "
                "such as callbacks.early_stopping.patience"
            )
        return self

    @model_validator(mode="after")
    def _check_offload(self) -> Self:
        name, algorithm = self.optimizer.name, self.optimizer.algorithm
        if self.zero.offload_optimizer.device == "nvme":
            if algorithm.state_bits != 32:
                raise ValueError(
                    "zero.offload_optimizer.device: nvme takes state in 32 bits; expected "
                    f"optimizer.{name}.state_bits 32, got {algorithm.state_bits}"
                )
            if algorithm.mark_names:
                raise ValueError(
                    f"zero.offload_optimizer.device: optimizer {name!r} reports of its state "
                    "between steps, which is then in files; expected 'none' or 'cpu', got 'nvme'"
                )
        if self.zero.offload_param.device == "nvme" and self.ema.decay is not None:
            raise ValueError(
                "zero.offload_param.device: the moving average follows weights in memory; "
                "expected 'none' or 'cpu' beside ema.decay, got 'nvme'"
            )
        return self

    @model_validator(mode="after")
    def _check_floats(self) -> Self:
        for path, value in _floats(self.model_dump()):
            if value != 0 and not _LEAST_FLOAT <= abs(value) <= _GREATEST_FLOAT:
                raise ValueError(
                    f"{path}: expected 0 or a number from {_LEAST_FLOAT:.2g} to "
                    f"{_GREATEST_FLOAT:.2g}, which float32 holds, got {value}"
                )
            if _GREATEST_BELOW_1 < value < 1:
                raise ValueError(
                    f"{path}: expected at most {_GREATEST_BELOW_1:.8f}, or 1, between which "
                    f"float32 has no numbers, got {value}"
                )
        return self

    def check_length(self, num_steps: int, name: str) -> None:
        """Checks that a run of so many steps is long enough for what it is to do.

        Raises:
            ConfigError: It ends before the learning rate has risen, or before a step that is to be
                traced; the message calls the number by this name.
        """
        if self.schedule.warmup_steps >= num_steps:
            raise ConfigError(
                f"schedule.warmup_steps: expected less than {name} ({num_steps}), got "
                f"{self.schedule.warmup_steps}"
            )
        traced = self.callbacks.profiler.first_step
        if traced is not None and traced > num_steps:
            raise ConfigError(
                f"callbacks.profiler.first_step: expected at most {name} ({num_steps}), got "
                f"{traced}"
            )

    @property
    def judges_evaluations(self) -> bool:
        """Whether the course of the run depends on evaluations on the way."""
        callbacks = self.callbacks
        judging = (
            callbacks.early_stopping.patience,
            callbacks.reduce_on_plateau.patience,
            self.checkpoint.keep_best,
        )
        return any(value is not None for value in judging)

    @property
    def canonical_json(self) -> str:
        """The whole configuration: keys sorted, no whitespace, ASCII alone."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of the configuration in canonical JSON; equal runs have equal ones."""
        return hashlib.sha256(self.canonical_json.encode()).hexdigest()


def _floats(section: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, float]]:
    """Yields every number that is no integer, and where it stands."""
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from _floats(value, f"{path}{key}.")
        elif isinstance(value, float):
            yield f"{path}{key}", value
