"""The training loop: one for every framework, network, data source and task."""

from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from base.provenance import library_versions
from data.dataset import Split
from data.prefetch import prefetch
from data.source import SOURCES
from models.weights import init_weights
from train.backends.backend import Backend
from train.config.schema import TrainConfig
from train.data_parallel import communication_report
from train.evaluation import evaluate
from train.events import Callback, Evaluated, Stopped, tell
from train.meter import Meter, require_finite
from train.publication import Publication, publish_model
from train.recipe import batch_of, num_steps_of, step_scalars, training_batches
from train.tasks.table import TASKS


def run(
    config: TrainConfig, output_dir: Path, backend: Backend, callbacks: Sequence[Callback]
) -> Publication | None:
    """Trains as `config` says, evaluates on the held-out data and publishes to `output_dir`.

    Every rank of the run calls it.

    Args:
        config: The run.
        output_dir: A new directory.
        backend: The framework that computes.
        callbacks: Whom to tell of progress; on the first rank.

    Returns:
        What was published, on the first rank; None on the others.

    Raises:
        ArtifactError: `output_dir` cannot be written.
        ConfigError: Its epochs are no number of steps that fits the rest of it.
        TrainingError: The loss diverged.
    """
    started_at = datetime.now(UTC)
    # What can fail of a record does so before hours are spent.
    libraries = library_versions(
        ["numpy", *backend.libraries, *SOURCES[config.data.source].libraries]
    )
    # All that is drawn at random is drawn in numpy, so that every framework sees the same.
    data = config.data.load()
    num_steps = num_steps_of(config, len(data.train))
    backend.start(init_weights(config.model, config.run.seed))
    num_steps = _train(config, backend, data.train, num_steps, callbacks)
    weights = backend.weights()
    if backend.rank != 0:
        return None
    metrics = evaluate(TASKS[config.task], backend.predict_fn(weights), data.test)
    require_finite(config, metrics)
    tell(callbacks, Evaluated(metrics))
    if (wire := backend.sent(num_steps)) is not None:
        tell(callbacks, communication_report(config, wire, num_steps))
    return publish_model(
        output_dir,
        config,
        weights,
        metrics,
        framework=backend.framework,
        libraries=libraries,
        device=backend.device,
        data_digest=data.digest,
        started_at=started_at,
        num_steps=num_steps,
    )


def _train(
    config: TrainConfig,
    backend: Backend,
    split: Split,
    num_steps: int,
    callbacks: Sequence[Callback],
) -> int:
    """Updates the weights until the run ends or a callback stops it; returns how many times."""
    loader, scalars_of = training_batches(config, split), step_scalars(config, num_steps)
    meter = Meter(config, backend, num_steps)
    batches = prefetch(lambda step: batch_of(config, loader, step, backend.share), range(num_steps))
    with closing(batches):
        for step, batch in enumerate(batches):
            scalars = scalars_of(step)
            result = backend.step(batch, scalars)
            report = meter.record(step, scalars.learning_rate, result)
            if report is None:
                continue
            stop = tell(callbacks, report)
            if step + 1 == num_steps:  # there is nothing left to stop
                break
            # What the first rank was answered, all must act on.
            if backend.mean_over_ranks(np.array(float(stop is not None))) > 0:
                if stop is not None:
                    tell(callbacks, Stopped(step + 1, num_steps, stop.reason))
                return step + 1
    return num_steps
