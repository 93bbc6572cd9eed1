"""Measures an artifact, how good and how fast it is, and writes down what was found.

bench(directory, output, config=load_config(path), program="flax")
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from hpc.registry.v1 import registry_pb2

from base.provenance import flags, host, source_state
from evaluation.examples import (
    SPLIT,
    EvaluationError,
    config_of,
    examples_digest,
    examples_of,
)
from evaluation.programs import PROGRAMS, program_of
from evaluation.quality import Quality, measure_quality
from evaluation.speed import measure_speed
from evaluation.speed_messages import Speed, SpeedOptions
from registry.artifact import VerifiedDescriptor, read_descriptor
from registry.evaluations import StoredEvaluation, write_evaluation
from train.config.schema import TrainConfig

DEFAULT_SPEED = SpeedOptions()


def bench(
    directory: Path,
    output: Path,
    *,
    config: TrainConfig | None = None,
    program: str | None = None,
    speed: SpeedOptions = DEFAULT_SPEED,
    tell: Callable[[str], object] = lambda line: None,
) -> StoredEvaluation:
    """Measures an artifact and writes an evaluation of it.

    Args:
        directory: Of the artifact.
        output: Of the evaluation; nothing stands there, or an empty directory.
        config: Whose sections `data`, `task` and `evaluation` say on what it is measured; None:
            that which it was trained from.
        program: What computes, a key of `evaluation.programs.PROGRAMS`; None: what trained it.
        speed: What is measured of speed.
        tell: Told what is being done, a line each.

    Raises:
        EvaluationError: It cannot be measured so.
        ArtifactError: The artifact is not as it was, or the evaluation cannot be written.
        ValueError: There is no such program, or the examples cannot be read.
    """
    found = read_descriptor(directory)
    name = program_of(found.artifact, program)
    config = config_of(found) if config is None else config
    examples = examples_of(found.artifact, config)
    tell(f"reading {examples.data.source}")
    data = examples.data.load()
    if not len(data.test):
        raise EvaluationError(f"data.source {examples.data.source!r} has no held-out examples")
    # First, so that the machine is as it was: this process has computed nothing yet.
    tell(f"timing {name} in a process of its own")
    fast = measure_speed(directory, name, data.test.inputs[: speed.batch_sizes[-1]], speed)
    tell(f"predicting {len(data.test):,} {examples.spec.unit}")
    PROGRAMS[name].prepare()
    good = measure_quality(
        PROGRAMS[name].load(directory), examples, data.test, config.evaluation.batch_size
    )
    where = registry_pb2.Data(
        source=examples.data.source,
        digest=data.digest,
        examples_digest=examples_digest(data.test),
        split=SPLIT,
        num_examples=len(data.test),
    )
    message = _message(found, name, where, good, fast)
    return write_evaluation(output, message, good.outcomes.values, good.outcomes.weights)


def _message(
    found: VerifiedDescriptor, program: str, data: registry_pb2.Data, good: Quality, fast: Speed
) -> registry_pb2.Evaluation:
    source = source_state()
    evaluation = registry_pb2.Evaluation(
        artifact_digest=found.digest,
        name=found.artifact.name,
        version=found.artifact.version,
        data=data,
        metrics=good.evaluation.metrics,
        metric_intervals={
            name: registry_pb2.Interval(low=low, high=high)
            for name, (low, high) in good.evaluation.intervals.items()
        },
        higher_is_better=good.higher_is_better,
        speeds=[registry_pb2.Speed(**speed.model_dump()) for speed in fast.speeds],
        load_s=fast.load_s,
        peak_memory_bytes=fast.peak_memory_bytes,
        base_memory_bytes=fast.base_memory_bytes,
        program=program,
        git_commit=source.commit,
        git_dirty=source.dirty,
        host=host(fast.device),
        library_versions=fast.library_versions,
        environment=flags(),
    )
    evaluation.measured_at.FromDatetime(datetime.now(UTC))
    return evaluation
