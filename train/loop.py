"""The training loop: one for every framework, network, data source and task."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from hpc.artifact.v1 import artifact_pb2

from base.provenance import cpu_features, flags, host, library_versions, source_state
from data.dataset import Dataset
from data.source import SOURCES
from data.validation import hold_out
from models.weights import Weights
from registry.artifact import VerifiedDescriptor, read_descriptor
from train.backends.backend import Backend
from train.callbacks.callbacks import Callbacks, named
from train.callbacks.surroundings import Surroundings
from train.callbacks.table import callbacks_of, score_of
from train.checkpoint.beginning import NEWEST, Beginning, check_goes_on, find_checkpoint
from train.checkpoint.course import Course
from train.checkpoint.fine_tuning import first_weights
from train.checkpoint.run_directory import CHECKPOINTS, EVALUATIONS, RunDirectory, claim
from train.checkpoint.saver import Saver
from train.checkpoint.store import Checkpoint, CheckpointStore
from train.checkpoint.suspension import Suspension
from train.config.schema import ConfigError, TrainConfig
from train.evaluation import Evaluation
from train.evaluator import Evaluator
from train.events import Began, Callback, Resumed, Saved, Warned
from train.meter import require_finite
from train.phases import Phases
from train.portable import Portable, checked, make_programs
from train.publication import Publication, publication_at, publish_model
from train.recipe import num_steps_of, unjudged
from train.training import Training


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
        ConfigError: Its epochs are no number of steps that fits the rest of it, all examples would
            be held out, or the network cannot be a program of `artifact.programs`.
        RunDirectoryError: It cannot go on in `output_dir`, or not from there.
        CallbackError: A callback failed; the run can go on from where it did.
        TrainingError: The loss diverged.
    """
    # What can fail of a record does so before hours are spent.
    libraries = library_versions(
        ["numpy", *backend.libraries, *SOURCES[config.data.source].libraries]
    )
    with ExitStack() as stack:
        place, checkpoint, has_ended, phases = None, None, False, Phases()
        heard = Callbacks({})
        parent: VerifiedDescriptor | None = None
        programs: dict[str, bytes] = {}
        if backend.rank == 0:
            if beginning.init_from is not None:
                parent = read_descriptor(beginning.init_from)
            claimed = claim(
                output_dir,
                config,
                backend.framework,
                fresh=beginning.fresh,
                init_from=None if parent is None else parent.digest,
            )
            place = stack.enter_context(claimed)
            made = callbacks_of(config, Surroundings(output_dir, backend, phases))
            heard = stack.enter_context(closing(Callbacks({**made, **named(callbacks)})))
            has_ended = beginning.from_step is None and place.artifact.exists()
            if not has_ended:
                checkpoint = find_checkpoint(place, beginning, heard)
                programs = make_programs(config)
        if backend.of_first_rank(has_ended):
            heard.tell(Warned(f"the run in {output_dir} has ended: there is nothing to train"))
            return None if place is None else publication_at(place.artifact)
        # All that is drawn at random is drawn in numpy, so that every framework sees the same.
        data = config.data.load()
        if checkpoint is not None:
            check_goes_on(checkpoint, config, backend.framework, backend.world_size, data.digest)
            if place is not None and beginning.from_step is not None:
                place.leave_after(checkpoint.manifest.step)
        training = _training(config, backend, output_dir, libraries, data, heard, phases)
        stack.enter_context(closing(training.saver))
        _begin(training, checkpoint, beginning.init_from)
        heard.tell(Began(training.step, training.num_steps))
        if (end := training.run()) is not None:
            saved = end.directory if isinstance(end, Saved) else end.reason
            suspension = Suspension(output_dir, end.step, training.num_steps, saved)
            return None if place is None else suspension
        weights = backend.weights()
        if place is None:
            return None
        evaluation = training.evaluate(weights, is_final=True)
        require_finite(config, evaluation.metrics)
        if heard.failure is not None:
            raise heard.failure
        examples = data.test.inputs
        return _published(
            place, training, weights, evaluation, libraries, data.digest, parent, programs, examples
        )


def _published(
    place: RunDirectory,
    training: Training,
    weights: Weights,
    evaluation: Evaluation,
    libraries: Mapping[str, str],
    data_digest: str,
    parent: VerifiedDescriptor | None,
    programs: Mapping[str, bytes],
    examples: np.ndarray,
) -> Publication:
    """Publishes what a run came to, with those of its programs that predict what the model does."""
    config, backend = training.config, training.backend

    def portable(artifact: artifact_pb2.Artifact) -> Portable:
        if not programs:
            return Portable()
        return checked(
            programs,
            artifact,
            weights,
            examples.astype(config.model.signature.input.dtype, copy=False),
            backend.predict_fn(weights),
            backend.framework,
            lambda message: training.callbacks.tell(Warned(message)),
        )

    return publish_model(
        place.artifact,
        config,
        weights,
        evaluation,
        framework=backend.framework,
        libraries=libraries,
        environment=_surroundings(config, backend),
        device=backend.device,
        data_digest=data_digest,
        started_at=place.started_at,
        num_steps=training.step,
        run_name=place.path.resolve().name,
        parent=None if parent is None else _parent(parent),
        portable=portable,
    )


def _parent(described: VerifiedDescriptor) -> artifact_pb2.Parent:
    artifact = described.artifact
    return artifact_pb2.Parent(
        name=artifact.name, version=artifact.version, digest=described.digest
    )


def _begin(training: Training, checkpoint: Checkpoint | None, origin: Path | None) -> None:
    """Brings a run to where it begins or goes on; collective.

    Args:
        training: Of the run.
        checkpoint: From which it goes on, on the first rank; None: it begins.
        origin: Directory of the artifact whose weights it begins with, if any.
    """
    backend, callbacks = training.backend, training.callbacks
    place: tuple[int, dict[str, Any]] = 0, training.course.model_dump()
    if checkpoint is not None:
        manifest = checkpoint.manifest
        place = manifest.step, manifest.course.model_dump()
        callbacks.restore(manifest.callbacks)
        callbacks.tell(Resumed(manifest.step, f"from {checkpoint.directory}"))
    training.step, course = backend.object_of_first_rank(place)
    training.course, training.origin = Course.model_validate(course), origin
    if training.step:
        training.load(training.step)
        return
    weights, taken = first_weights(training.config.model, training.config.run.seed, origin)
    backend.start(weights)
    if taken is not None:
        callbacks.tell(Resumed(0, taken))


def _training(
    config: TrainConfig,
    backend: Backend,
    output_dir: Path,
    libraries: Mapping[str, str],
    data: Dataset,
    callbacks: Callbacks,
    phases: Phases,
) -> Training:
    """Returns the steps of a run that is at its beginning, with what saves them."""
    source = source_state()
    constant = {
        "framework": backend.framework,
        "seed": config.run.seed,
        "world_size": backend.world_size,
        "config": config.model_dump(mode="json"),
        "config_digest": config.digest,
        "data_digest": data.digest,
    }
    commit = f"{source.commit}{' with changes' if source.dirty else ''}"

    def facts() -> dict[str, Any]:
        surroundings = _surroundings(config, backend)
        environment = {
            **libraries,
            **surroundings,
            "host": host(backend.device),
            "commit": commit,
        }
        now = datetime.now(UTC).isoformat()
        return {**constant, **training.facts(), "environment": environment, "saved_at": now}

    store = CheckpointStore(output_dir / CHECKPOINTS)
    saver = Saver(backend, store, config.checkpoint, facts, score_of(config), callbacks)
    learnt, validation = _parts(config, data)
    num_examples = len(data.train) if learnt is None else len(learnt)
    num_steps = num_steps_of(config, num_examples)
    if (warning := unjudged(config, num_examples, num_steps)) is not None:
        callbacks.tell(Warned(warning))
    evaluations = output_dir / EVALUATIONS
    training = Training(
        config,
        backend,
        saver,
        data.train,
        learnt,
        Evaluator(config, backend, data, validation, evaluations, callbacks),
        callbacks,
        num_steps,
        phases,
    )
    return training


def _surroundings(config: TrainConfig, backend: Backend) -> dict[str, str]:
    """Returns what can change a run's bits besides configuration, data, commit and libraries."""
    return {
        "num_ranks": str(backend.world_size),
        "num_threads": str(backend.num_threads),
        "deterministic": str(config.run.deterministic).lower(),
        "cpu_features": " ".join(cpu_features()),
        **flags(),
    }


def _parts(config: TrainConfig, data: Dataset) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Returns which training examples are learnt and which measured on the way; None: all, none."""
    fraction = config.evaluation.validation_fraction
    if fraction is None:
        return None, None
    try:
        return hold_out(data.train, config.data.describe(), fraction)
    except ValueError as error:
        raise ConfigError(f"evaluation.validation_fraction: {error}") from error
