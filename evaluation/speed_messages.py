"""What `evaluation.speed` and the process that it starts say to each other."""

from pydantic import Field

from base.config import Section

REQUEST, INPUTS, REPLY = "request.json", "inputs.npy", "reply.json"


class SpeedOptions(Section):
    """What is measured of speed."""

    batch_sizes: tuple[int, ...] = Field(
        default=(1, 8, 32), min_length=1, description="examples in a call, each measured by itself"
    )
    num_calls: int = Field(default=200, ge=1, le=10**6, description="of each batch size, timed")
    num_warm_up_calls: int = Field(default=20, ge=1, le=10**6, description="before them, not timed")
    max_seconds: float = Field(
        default=60.0, gt=0, le=86_400, description="of each batch size; fewer calls are timed then"
    )


class BatchSpeed(Section):
    """How fast calls of one batch size are; percentiles are calls that were measured."""

    batch_size: int
    num_calls: int
    latency_mean_ms: float
    latency_p50_ms: float
    latency_p90_ms: float
    latency_p99_ms: float
    examples_per_s: float


class Speed(Section):
    """What the process found.

    Attributes:
        speeds: By batch size, ascending.
        load_s: From the artifact on the disk to its first prediction, of one example; what
            computes had been imported before.
        peak_memory_bytes: Most that was resident.
        base_memory_bytes: What was resident before the artifact was read.
        device: What computed, for a human.
        library_versions: By distribution.
    """

    speeds: tuple[BatchSpeed, ...]
    load_s: float
    peak_memory_bytes: int
    base_memory_bytes: int
    device: str
    library_versions: dict[str, str]


class SpeedRequest(Section):
    """What the process is asked."""

    directory: str
    program: str
    options: SpeedOptions
