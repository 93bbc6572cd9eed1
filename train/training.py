"""The steps of a run: what is done in each of them, and what turns its course."""

from contextlib import closing
from dataclasses import dataclass, field
from enum import IntFlag, auto
from pathlib import Path
from typing import Any

import numpy as np

from base.interrupts import asked, held_back
from data.dataset import Split
from data.prefetch import prefetch
from models.weights import Weights
from train.backends.backend import Backend
from train.callbacks.callbacks import CallbackError, Callbacks
from train.checkpoint.course import Course
from train.checkpoint.fine_tuning import first_weights
from train.checkpoint.manifest import STATE, CheckpointError
from train.checkpoint.saver import Saver
from train.checkpoint.store import Checkpoint
from train.config.schema import TrainConfig
from train.data_parallel import communication_report
from train.evaluation import Evaluation
from train.evaluator import Evaluator
from train.events import (
    Abort,
    Compared,
    Evaluated,
    KeepBest,
    LimitLoss,
    RollBack,
    RolledBack,
    Save,
    Saved,
    SaveFailed,
    ScaleLearningRate,
    StepBegins,
    Stop,
    Stopped,
    Warned,
)
from train.launch.heartbeat import beat
from train.meter import Meter, TrainingError
from train.phases import Phases
from train.recipe import batch_of, evaluation_interval, step_scalars, training_batches

_ASKED_TO_END = "asked to end: finishing the step and saving; asked again, it ends at once"


class _Verdict(IntFlag):
    """What all ranks do after a step, as the first one was answered or asked."""

    GO_ON = 0
    TURN = auto()  # the course has changed
    SAVE = auto()
    ROLL_BACK = auto()
    STOP = auto()
    SUSPEND = auto()
    ABORT = auto()


@dataclass
class Training:
    """The steps of one run, as one of its ranks; every rank calls its methods together.

    Attributes:
        config: The run.
        backend: What computes; it has started, and has the state of the step.
        saver: What saves it.
        train: What it learns from.
        rows: Which of that; None: all.
        evaluator: What measures it.
        callbacks: Whom to tell; on the first rank.
        num_steps: Updates in the whole run.
        phases: Where its time goes.
        origin: Directory of the artifact whose weights it began with, if any.
        step: Updates that were made.
        course: How it goes on.
        evaluation: After this very step, on the first rank, if there was one.
    """

    config: TrainConfig
    backend: Backend
    saver: Saver
    train: Split
    rows: np.ndarray | None
    evaluator: Evaluator
    callbacks: Callbacks
    num_steps: int
    phases: Phases
    origin: Path | None = None
    step: int = 0
    course: Course = field(default_factory=Course)
    evaluation: Evaluation | None = None
    _num_made: int = 0  # since the backend has started
    _reason: str = ""

    def run(self) -> Saved | SaveFailed | None:
        """Makes the steps that are left, unless it is stopped or asked to end before.

        Returns:
            None when the model is to be evaluated and published. Otherwise the run is to go on
            another time: what became of its checkpoint.

        Raises:
            CallbackError: A callback failed; the run was saved.
            TrainingError: A callback aborted it.
        """
        with held_back(_ASKED_TO_END if self.backend.rank == 0 else ""):
            while self.step < self.num_steps:
                verdict = self._stretch()
                if _Verdict.ROLL_BACK in verdict:
                    self._roll_back()
                elif _Verdict.SUSPEND in verdict:
                    return self._suspend()
                elif verdict:
                    break
        self._report_communication()
        self._tell(self.backend.peak_memory())
        self._restore_best()
        return None

    def facts(self) -> dict[str, Any]:
        """Returns what a checkpoint says of the run as it is."""
        return {
            "step": self.step,
            "course": self.course,
            "callbacks": self.callbacks.state(),
            "metrics": {} if self.evaluation is None else self.evaluation.metrics,
        }

    def _stretch(self) -> _Verdict:
        """Makes steps until something other than the next one is to be done, or none is left."""
        config, backend = self.config, self.backend
        loader = training_batches(config, self.train, self.rows)
        scalars_of = step_scalars(config, self.num_steps)
        meter = Meter(config, backend, self.step, self.num_steps)
        num_examples = len(self.train) if self.rows is None else len(self.rows)
        evaluate_every = evaluation_interval(config, num_examples)
        shift = self.course.next_batch - self.step
        batches = prefetch(
            lambda step: batch_of(config, loader, step, backend.share, shift=shift),
            range(self.step, self.num_steps),
        )
        with closing(batches):
            while self.step < self.num_steps:
                beat()
                self._tell(StepBegins(self.step))
                with self.phases.measured("data"):
                    batch = next(batches)
                scalars = scalars_of(self.step, self.course)
                with self.phases.measured("step"):
                    meter.record(backend.step(batch, scalars))
                self.step, self.evaluation = self.step + 1, None
                self._num_made += 1
                self.course = self.course.model_copy(update={"next_batch": self.step + shift})
                is_due = self._is_due(evaluate_every)
                if meter.is_due() or is_due or self._must_look():
                    self._look(meter)
                if meter.is_due():
                    self._tell(meter.report(scalars.learning_rate, self.phases))
                if is_due:
                    weights = backend.weights()
                    if backend.rank == 0:  # the others wait for its verdict
                        self.evaluate(weights, is_final=False)
                if self._is_due(config.callbacks.watch.compare_ranks_every_steps):
                    self._tell(Compared(self.step, self.backend.digests()))
                verdict = self._verdict()
                if _Verdict.SUSPEND in verdict:  # what is not looked at is not saved
                    self._look(meter)
                    verdict |= self._verdict()
                if verdict & (_Verdict.ROLL_BACK | _Verdict.STOP | _Verdict.SUSPEND):
                    return verdict
                self._save(is_asked=_Verdict.SAVE in verdict)
        return _Verdict.GO_ON

    def _tell(self, event: Any) -> None:
        with self.phases.measured("callbacks"):
            self.callbacks.tell(event)

    def _is_due(self, every_steps: int | None) -> bool:
        return every_steps is not None and self.step % every_steps == 0

    def _must_look(self) -> bool:
        """Whether the losses of all steps have to be known before anything else is done."""
        watch = self.config.callbacks.watch
        is_judged = watch.on_spike is not None and self.step % watch.window_steps == 0
        return is_judged or self.saver.is_due(self.step)

    def _look(self, meter: Meter) -> None:
        with self.phases.measured("device"):
            losses = meter.look()
        if losses is not None:
            self._tell(losses)

    def evaluate(self, weights: Weights, *, is_final: bool) -> Evaluation:
        """Measures the model, unless it just was, writes that down and tells it; on the first rank.

        Args:
            weights: The backend's, as they are.
            is_final: Whether they will be published.
        """
        with self.phases.measured("evaluation"):
            on_the_way = self.evaluator.measured_on(is_final=False)
            measured_on = self.evaluator.measured_on(is_final=is_final)
            evaluation = self.evaluation
            if evaluation is None or measured_on != on_the_way:
                evaluation = self.evaluator.evaluate(weights, is_final=is_final)
            self.evaluator.write(evaluation, self.step, is_final=is_final)
        self.evaluation = evaluation
        event = Evaluated(
            self.step,
            evaluation.metrics,
            is_final,
            evaluation.intervals,
            evaluation.num_examples,
            measured_on,
        )
        self._tell(event)
        return evaluation

    def _verdict(self) -> _Verdict:
        """Returns what all ranks are to do, which have the first one's course after it."""
        own = _Verdict.GO_ON
        for answer in self.callbacks.take_answers():
            own |= self._heed(answer)
        if asked() is not None or self.callbacks.failure is not None:
            own |= _Verdict.SUSPEND
        beat()
        verdict = _Verdict(self.backend.of_first_rank(int(own)))
        if verdict & (_Verdict.ABORT | _Verdict.ROLL_BACK):
            self._reason = self.backend.object_of_first_rank(self._reason)
        if _Verdict.ABORT in verdict:
            raise TrainingError(self._reason)
        if _Verdict.TURN in verdict:
            content = self.backend.object_of_first_rank(self.course.model_dump())
            self.course = Course.model_validate(content)
        return verdict

    def _heed(self, answer: Any) -> _Verdict:
        """Returns what an answer comes to; the first rank's course is as it says."""
        match answer:
            case Abort(reason):
                self._reason = reason
                return _Verdict.ABORT
            case Stop(reason) if self.step < self.num_steps:  # else there is nothing left to stop
                self._tell(Stopped(self.step, self.num_steps, reason))
                return _Verdict.STOP
            case RollBack(reason):
                self._reason = reason
                return _Verdict.ROLL_BACK
            case Save():
                return _Verdict.SAVE
            case KeepBest():
                return _Verdict.SAVE | self._turn(best_step=self.step)
            case ScaleLearningRate(factor):
                return self._turn(learning_rate_scale=self.course.learning_rate_scale * factor)
            case LimitLoss(limit):
                return self._turn(loss_limit=None if limit == float("inf") else limit)
        return _Verdict.GO_ON

    def _turn(self, **changes: Any) -> _Verdict:
        self.course = self.course.model_copy(update=changes)
        return _Verdict.TURN

    def _save(self, *, is_asked: bool) -> None:
        with self.phases.measured("checkpoint"):
            self.saver.poll()
            is_last = self.step == self.num_steps
            if is_asked or (self.saver.is_due(self.step) and not is_last):
                self.saver.save(self.step)

    def _suspend(self) -> Saved | SaveFailed:
        """Saves the run, which is asked to end, or of which a callback failed."""
        end = self.saver.save_now(self.step)
        if (failure := self.callbacks.failure) is not None:
            saved = f"saved in {end.directory}" if isinstance(end, Saved) else "not saved"
            after = f"after {self.step:,} steps the run was {saved}"
            raise CallbackError(f"{failure}; {after}") from failure.__cause__
        return end

    def _roll_back(self) -> None:
        """Goes back to the newest checkpoint that is whole, or to the beginning; then on."""
        self.saver.wait()
        step, next_batch = self.step, self.course.next_batch
        found: Checkpoint | None = None
        target: tuple[int, dict[str, Any]] = (0, Course().model_dump())
        if self.backend.rank == 0:
            found = self.saver.store.newest_good(lambda text: self.callbacks.tell(Warned(text)))
            if found is not None:
                target = found.manifest.step, found.manifest.course.model_dump()
        self.step, course = self.backend.object_of_first_rank(target)
        rolled_back = {"next_batch": next_batch, "num_rollbacks": self.course.num_rollbacks + 1}
        self.course = Course.model_validate(course | rolled_back)
        self.load(self.step)
        if self.backend.rank == 0:
            self.callbacks.restore({} if found is None else found.manifest.callbacks)
            self._tell(RolledBack(step, self.step, self.course.num_rollbacks, self._reason))

    def _restore_best(self) -> None:
        """Has the backend have the state that is to be published, if that is not the last."""
        self.saver.wait()
        best, is_there = self.course.best_step, 0
        if best is None or best == self.step:
            return
        if self.backend.rank == 0:
            try:
                self.saver.store.verified(best)
                is_there = 1
            except CheckpointError as error:
                self._tell(Warned(f"the best model, of step {best}, is lost: {error}"))
        if self.backend.of_first_rank(is_there):
            self.load(best)
            self.step = best

    def load(self, step: int) -> None:
        """Has the backend start, and have the state after so many steps."""
        # Of later steps all are replaced by what was saved.
        origin = None if step else self.origin
        weights, _ = first_weights(self.config.model, self.config.run.seed, origin)
        self.backend.start(weights)
        if step:
            self.backend.load(self.saver.store.path(step) / STATE)
        self._num_made, self.evaluation = 0, None

    def _report_communication(self) -> None:
        if self._num_made and (wire := self.backend.sent(self._num_made)) is not None:
            self._tell(communication_report(self.config, wire, self._num_made))
