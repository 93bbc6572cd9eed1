"""The training loop: one for every framework, network, data source and task."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import Any

from base.interrupts import asked, held_back
from base.provenance import host, library_versions, source_state
from data.dataset import Dataset, Split
from data.prefetch import prefetch
from data.source import SOURCES
from models.weights import Weights, init_weights
from registry.artifact import load, read_descriptor
from train.backends.backend import Backend
from train.checkpoint.beginning import NEWEST, Beginning, check_goes_on, find_checkpoint
from train.checkpoint.fine_tuning import inherit
from train.checkpoint.manifest import STATE
from train.checkpoint.run_directory import CHECKPOINTS, claim
from train.checkpoint.saver import Saver
from train.checkpoint.store import CheckpointStore
from train.checkpoint.suspension import Suspension
from train.config.schema import TrainConfig
from train.data_parallel import communication_report
from train.evaluation import evaluate
from train.events import (
    Callback,
    Evaluated,
    Resumed,
    Saved,
    SaveFailed,
    Stop,
    Stopped,
    Warned,
    tell,
)
from train.meter import Meter, require_finite
from train.publication import Publication, publication_at, publish_model
from train.recipe import batch_of, num_steps_of, step_scalars, training_batches
from train.tasks.table import TASKS

_ASKED_TO_END = "asked to end: finishing the step and saving; asked again, it ends at once"


def run(
    config: TrainConfig,
    output_dir: Path,
    backend: Backend,
    callbacks: Sequence[Callback],
    beginning: Beginning = NEWEST,
) -> Publication | Suspension | None:
    """Trains as `config` says, evaluates on the held-out data and publishes.

    Every rank of the run calls it.

    Args:
        config: The run.
        output_dir: Of the run, see `train.checkpoint.run_directory`: a new one, or one of the same
            run, which goes on from where it was.
        backend: The framework that computes.
        callbacks: Whom to tell of progress; on the first rank.
        beginning: Where it goes on, if not from its newest checkpoint.

    Returns:
        What was published, or how far the run came if it was asked to end, on the first rank; None
        on the others.

    Raises:
        ArtifactError: The artifact cannot be written, or that which it begins from not be read.
        ConfigError: Its epochs are no number of steps that fits the rest of it.
        RunDirectoryError: It cannot go on in `output_dir`, or not from there.
        TrainingError: The loss diverged.
    """
    # What can fail of a record does so before hours are spent.
    libraries = library_versions(
        ["numpy", *backend.libraries, *SOURCES[config.data.source].libraries]
    )
    with ExitStack() as stack:
        place, checkpoint, has_ended, first = None, None, False, 0
        if backend.rank == 0:
            origin = beginning.init_from
            claimed = claim(
                output_dir,
                config,
                backend.framework,
                fresh=beginning.fresh,
                init_from=None if origin is None else read_descriptor(origin).digest,
            )
            place = stack.enter_context(claimed)
            has_ended = beginning.from_step is None and place.artifact.exists()
            if not has_ended:
                checkpoint = find_checkpoint(place, beginning, callbacks)
        if backend.of_first_rank(has_ended):
            tell(callbacks, Warned(f"the run in {output_dir} has ended: there is nothing to train"))
            return None if place is None else publication_at(place.artifact)
        # All that is drawn at random is drawn in numpy, so that every framework sees the same.
        data = config.data.load()
        num_steps = num_steps_of(config, len(data.train))
        if checkpoint is not None:
            check_goes_on(checkpoint, config, backend.framework, backend.world_size, data.digest)
            first = checkpoint.manifest.step
            if place is not None and beginning.from_step is not None:
                place.leave_after(first)
            tell(callbacks, Resumed(first, f"from {checkpoint.directory}"))
        first = backend.of_first_rank(first)
        # Of a run that goes on they are replaced by what was saved.
        backend.start(_weights(config, None if first else beginning.init_from, callbacks))
        saver = _saver(config, backend, output_dir, libraries, data, callbacks)
        stack.enter_context(closing(saver))
        if first:
            backend.load(saver.store.path(first) / STATE)
        end = _train(config, backend, saver, data.train, range(first, num_steps), callbacks)
        if isinstance(end, Saved | SaveFailed):
            saved = end.directory if isinstance(end, Saved) else end.reason
            return None if place is None else Suspension(output_dir, end.step, num_steps, saved)
        weights = backend.weights()
        if place is None:
            return None
        predict, examples = backend.predict_fn(weights), config.data.describe()
        metrics = evaluate(TASKS[config.task], predict, data.test, examples).metrics
        require_finite(config, metrics)
        tell(callbacks, Evaluated(metrics))
        if (wire := backend.sent(end - first)) is not None:
            tell(callbacks, communication_report(config, wire, end - first))
        return publish_model(
            place.artifact,
            config,
            weights,
            metrics,
            framework=backend.framework,
            libraries=libraries,
            device=backend.device,
            data_digest=data.digest,
            started_at=place.started_at,
            num_steps=end,
        )


def _weights(config: TrainConfig, origin: Path | None, callbacks: Sequence[Callback]) -> Weights:
    """Returns the weights before the first step, of another model as far as they fit."""
    if origin is None:
        return init_weights(config.model, config.run.seed)
    inherited = inherit(config.model, config.run.seed, load(origin))
    tell(callbacks, Resumed(0, f"from {origin}: {inherited}"))
    return inherited.weights


def _saver(
    config: TrainConfig,
    backend: Backend,
    output_dir: Path,
    libraries: Mapping[str, str],
    data: Dataset,
    callbacks: Sequence[Callback],
) -> Saver:
    """Returns what saves the run, and says in each checkpoint what it is of."""
    source = source_state()
    constant = {
        "framework": backend.framework,
        "seed": config.run.seed,
        "world_size": backend.world_size,
        "config": config.model_dump(mode="json"),
        "config_digest": config.digest,
        "environment": {
            **libraries,
            "host": host(backend.device),
            "commit": f"{source.commit}{' with changes' if source.dirty else ''}",
        },
    }

    def facts(step: int) -> dict[str, Any]:
        now = datetime.now(UTC).isoformat()
        position = {"step": step, "next_batch": step, "data_digest": data.digest}
        return {**constant, **position, "saved_at": now}

    return Saver(
        backend, CheckpointStore(output_dir / CHECKPOINTS), config.checkpoint, facts, callbacks
    )


def _train(
    config: TrainConfig,
    backend: Backend,
    saver: Saver,
    split: Split,
    steps: range,
    callbacks: Sequence[Callback],
) -> int | Saved | SaveFailed:
    """Updates the weights in these steps, unless it is stopped or asked to end before.

    Returns:
        How many updates the run has had when it is to be evaluated; or, when it is to go on another
        time, what became of its checkpoint.
    """
    loader, scalars_of = training_batches(config, split), step_scalars(config, steps.stop)
    meter = Meter(config, backend, steps.stop)
    batches = prefetch(lambda step: batch_of(config, loader, step, backend.share), steps)
    with closing(batches), held_back(_ASKED_TO_END):
        for step, batch in zip(steps, batches, strict=True):
            scalars, done = scalars_of(step), step + 1
            result = backend.step(batch, scalars)
            report = meter.record(step, scalars.learning_rate, result)
            stop = None if report is None else tell(callbacks, report)
            if done == steps.stop:  # there is nothing left to stop
                break
            # What the first rank was answered or asked, all must act on.
            match backend.of_first_rank(_verdict(stop)):
                case _Verdict.STOP:
                    if stop is not None:
                        tell(callbacks, Stopped(done, steps.stop, stop.reason))
                    return done
                case _Verdict.SUSPEND:
                    return saver.save_now(done)
            saver.poll()
            if saver.is_due(done):
                saver.save(done)
    return steps.stop


class _Verdict(IntEnum):
    """What all ranks do after a step."""

    GO_ON = 0
    STOP = 1
    SUSPEND = 2


def _verdict(stop: Stop | None) -> _Verdict:
    if asked() is not None:
        return _Verdict.SUSPEND
    return _Verdict.GO_ON if stop is None else _Verdict.STOP
