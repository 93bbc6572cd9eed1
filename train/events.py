"""What a run tells while it goes on, and what those who hear it may answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias


@dataclass(frozen=True)
class Began:
    """This process is about to make its first step, or has none left to make; told once.

    Attributes:
        step: Optimizer updates that had been made before, by others.
        num_steps: Updates in the whole run.
    """

    step: int
    num_steps: int


@dataclass(frozen=True)
class StepBegins:
    """A step is about to begin; told in the process that trains, and in no other.

    Attributes:
        step: Optimizer updates applied so far.
    """

    step: int


@dataclass(frozen=True)
class Losses:
    """What single steps gave; told whenever the loop has waited for the device to know it.

    Attributes:
        first: Which step the first of these is, counted from 1.
        losses: Mean training loss of each step, in nats.
        metrics: What the task measures in each step.
    """

    first: int
    losses: Sequence[float]
    metrics: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Compared:
    """What ranks hold of the weights that all of them should have alike.

    Attributes:
        step: Updates applied so far.
        digests: SHA-256, in hex, of each rank's.
    """

    step: int
    digests: Sequence[str]


@dataclass(frozen=True)
class Stepped:
    """How training went since the report before; told every `run.log_every_steps` steps.

    Attributes:
        step: Optimizer updates applied so far.
        num_steps: Updates in the whole run.
        loss: Mean training loss, in nats.
        metrics: Means of what the task measures on training examples, such as `accuracy`.
        learning_rate: Of the latest update.
        examples_per_s: Throughput, in examples a second.
        unit: What an example is called, in the plural, such as "images".
        fractions: Of the weights, those that have a mark of the latest update, such as "clipped";
            see `optim.algorithm.Algorithm.marks`.
        phases: Where the time of a step went on the host, in seconds; see `train.phases`.
    """

    step: int
    num_steps: int
    loss: float
    metrics: Mapping[str, float]
    learning_rate: float
    examples_per_s: float
    unit: str
    fractions: Mapping[str, float] = field(default_factory=dict)
    phases: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class GpuUsage:
    """Of one GPU, whoever uses it.

    Attributes:
        utilization: Share of the time in which a kernel ran, from 0 to 1.
        memory_bytes: In use.
        power_w: Drawn, in watts.
    """

    utilization: float
    memory_bytes: int
    power_w: float


@dataclass(frozen=True)
class Resources:
    """What the processes of a run used of this machine since the report before.

    Attributes:
        step: Optimizer updates applied so far.
        cpu_cores: Processors at work, on average; those of all processes of the run.
        memory_bytes: Resident memory, at most; what processes share counts for each.
        disk_read_bytes_per_s: From devices, not from the system's cache.
        disk_written_bytes_per_s: Likewise.
        network_received_bytes_per_s: Of the machine, by all interfaces but its loopback, whoever
            received it: the system does not count it by process.
        network_sent_bytes_per_s: Likewise.
        gpus: Means of each GPU of the machine, by its number, as far as it says.
    """

    step: int
    cpu_cores: float
    memory_bytes: int
    disk_read_bytes_per_s: float
    disk_written_bytes_per_s: float
    network_received_bytes_per_s: float
    network_sent_bytes_per_s: float
    gpus: Mapping[str, GpuUsage] = field(default_factory=dict)


@dataclass(frozen=True)
class Profiled:
    """A window of steps was traced.

    Attributes:
        step: The last of them.
        num_steps: How many.
        seconds: That a step took, on average, by what it took them for; see
            `train.callbacks.profiler`.
        bottleneck: What took most.
        directory: Of the trace and the summary.
    """

    step: int
    num_steps: int
    seconds: Mapping[str, float]
    bottleneck: str
    directory: Path


@dataclass(frozen=True)
class Stopped:
    """A callback's answer ended training; told once, before the evaluation."""

    step: int
    num_steps: int
    reason: str


@dataclass(frozen=True)
class Evaluated:
    """How a model does on the held-out data.

    Attributes:
        step: Updates that it has had.
        metrics: By name.
        is_final: Whether it is the model that will be published; told once, at the end.
        intervals: Of those metrics that have one, the 95% interval, see `train.tasks.estimates`.
        num_examples: That it was measured on.
        measured_on: What these are: "held-out", or "validation" ones of the training examples.
    """

    step: int
    metrics: Mapping[str, float]
    is_final: bool
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    num_examples: int = 0
    measured_on: str = "held-out"


@dataclass(frozen=True)
class Communicated:
    """What ranks sent each other of the gradients they compressed; told once, at the end.

    Attributes:
        bytes_per_step: What one rank sent, on average over the steps, in bytes.
        ratio: To the bytes that float32 would have taken.
        description: How the gradients were sent, for a human.
    """

    bytes_per_step: float
    ratio: float
    description: str


@dataclass(frozen=True)
class PeakMemory:
    """What training took of memory at the most; told once, when it has ended.

    Attributes:
        host_bytes: Resident memory of a rank's process, of the rank that had most.
        device_bytes: Of a GPU, likewise, as the framework counts what it allocates; None: there is
            none.
    """

    host_bytes: int
    device_bytes: int | None


@dataclass(frozen=True)
class Resumed:
    """A run goes on from a checkpoint, or begins from another model's weights.

    Attributes:
        step: Optimizer updates that had been made.
        description: From what, for a human.
    """

    step: int
    description: str


@dataclass(frozen=True)
class Warned:
    """Something is not as it was left, such as a checkpoint that was damaged.

    Attributes:
        message: What, and what was done about it; for a human.
    """

    message: str


@dataclass(frozen=True)
class Noted:
    """Something is worth knowing, such as where a run's metrics can be read.

    Attributes:
        message: For a human.
    """

    message: str


@dataclass(frozen=True)
class Saved:
    """A checkpoint is whole and on the disk."""

    step: int
    directory: Path


@dataclass(frozen=True)
class SaveFailed:
    """A checkpoint could not be written; those before it are as they were."""

    step: int
    reason: str


@dataclass(frozen=True)
class RolledBack:
    """Training goes on from an earlier step, with data that it has not seen.

    Attributes:
        step: Updates after which something went wrong.
        to_step: Updates of the state from which it goes on.
        number: How often that has been, this time included.
        reason: For a human.
    """

    step: int
    to_step: int
    number: int
    reason: str


Event: TypeAlias = (
    Began
    | StepBegins
    | Losses
    | Compared
    | Stepped
    | Resources
    | Profiled
    | Stopped
    | Evaluated
    | Communicated
    | PeakMemory
    | Resumed
    | Warned
    | Noted
    | Saved
    | SaveFailed
    | RolledBack
)


@dataclass(frozen=True)
class Stop:
    """Train no further; evaluate and publish what there is.

    Attributes:
        reason: For a human.
    """

    reason: str


@dataclass(frozen=True)
class Abort:
    """Train no further, and publish nothing: the run ends with a `TrainingError`.

    Attributes:
        reason: For a human, with what to change.
    """

    reason: str


@dataclass(frozen=True)
class Tell:
    """Tell all callbacks of this, once all of them have heard what is told now."""

    event: Event


@dataclass(frozen=True)
class Save:
    """Save the run now."""


@dataclass(frozen=True)
class KeepBest:
    """Save the run now; at its end, this is published unless a later one is kept as better."""


@dataclass(frozen=True)
class ScaleLearningRate:
    """Multiply the learning rate of all steps that follow by a factor."""

    factor: float


@dataclass(frozen=True)
class LimitLoss:
    """Skip the updates of later steps whose loss is greater, or no number.

    Attributes:
        limit: In nats; infinity: those that are not finite.
    """

    limit: float


@dataclass(frozen=True)
class RollBack:
    """Go back to the newest checkpoint, and on from there with data that has not been seen.

    Attributes:
        reason: For a human.
    """

    reason: str


Action: TypeAlias = Stop | Abort | Tell | Save | KeepBest | ScaleLearningRate | LimitLoss | RollBack

# Hears every event of a run, on its first rank, and may answer.
Callback: TypeAlias = Callable[[Event], Action | Sequence[Action] | None]
