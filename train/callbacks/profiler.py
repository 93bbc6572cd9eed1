"""Traces a window of steps, and says where a step's time goes."""

import json
import shutil
import time
from contextlib import ExitStack
from pathlib import Path

from base.files import write_file
from train.callbacks.callbacks import Closing
from train.callbacks.surroundings import Surroundings
from train.callbacks.trace_file import busy, read_trace
from train.events import (
    Action,
    Began,
    Event,
    Profiled,
    RolledBack,
    StepBegins,
    Stepped,
    Stopped,
    Tell,
    Warned,
)

# In words, beside the trace itself; there once both are whole.
_SUMMARY = "summary.txt"

_MEANING = {
    "data": "waiting for the next batch",
    "compute": "operations at work",
    "communication": "collectives at work, and nothing else",
    "checkpoint": "copying what is saved, and waiting for the save before",
    "evaluation": "measuring the model",
    "host": "all else: the loop, callbacks, giving work to the device",
}


class Profiler(Closing):
    """Traces on the first rank, once in a process that makes the first of these steps.

    That none is traced, as a run goes on after that step or stops before it, is told.

    Args:
        first_step: The first that is traced, counted from 1.
        num_steps: How many are. A window in which the run ends or is stopped is shorter; of one in
            which it is rolled back or interrupted there is a trace and no summary.
        directory: Where to; what is there is replaced.
        surroundings: What traces, and what measures phases.
    """

    def __init__(
        self, first_step: int, num_steps: int, directory: Path, surroundings: Surroundings
    ):
        self._begin, self._end = first_step - 1, first_step - 1 + num_steps
        self._directory, self._surroundings = directory, surroundings
        self._tracing = ExitStack()
        self._is_tracing = self._is_done = False
        self._since, self._before = 0.0, dict[str, float]()

    def __call__(self, event: Event) -> Action | None:
        match event:
            case Began(step) if step > self._begin and not (self._directory / _SUMMARY).exists():
                return Tell(self._untraced(f"goes on after {step:,} steps"))
            case StepBegins(step) if step == self._begin and not self._is_done:
                self._start()
            case StepBegins(step) if self._is_tracing and step >= self._end:
                return Tell(self._finish(step))
            case Stepped() if self._is_tracing and event.step >= min(self._end, event.num_steps):
                return Tell(self._finish(event.step))
            case Stopped(step) if self._is_tracing:
                return Tell(self._finish(step))
            case Stopped(step) if step <= self._begin:
                return Tell(self._untraced(f"ends after {step:,} steps"))
            case RolledBack() if self._is_tracing:
                self._end_trace()
                return Tell(Warned("of the steps that were rolled back there is no summary"))
        return None

    def close(self) -> None:
        """See `Closing`."""
        self._tracing.close()

    def _untraced(self, why: str) -> Warned:
        first = self._begin + 1
        return Warned(f"callbacks.profiler.first_step {first:,} is not traced: the run {why}")

    def _start(self) -> None:
        backend = self._surroundings.backend
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir(parents=True)
        backend.wait()
        self._tracing.enter_context(backend.trace(self._directory))
        self._is_tracing = True
        self._before, self._since = self._surroundings.phases.seconds(), time.perf_counter()

    def _finish(self, step: int) -> Profiled:
        self._surroundings.backend.wait()
        total_s = time.perf_counter() - self._since
        after = self._surroundings.phases.seconds()
        self._end_trace()
        self._is_done = True
        apart = {
            phase: after.get(phase, 0.0) - self._before.get(phase, 0.0)
            for phase in ("data", "checkpoint", "evaluation")
        }
        at_work = busy(read_trace(self._directory))
        rest_s = total_s - sum(apart.values())
        compute_s = min(at_work.compute_s, rest_s)
        communication_s = min(at_work.communication_s, rest_s - compute_s)
        host_s = rest_s - compute_s - communication_s
        seconds = apart | {
            "compute": compute_s,
            "communication": communication_s,
            "host": host_s,
        }
        num_steps = step - self._begin
        a_step = {part: seconds[part] / num_steps for part in _MEANING}
        bottleneck = max(a_step, key=lambda part: a_step[part])
        profiled = Profiled(step, num_steps, a_step, bottleneck, self._directory)
        _write(profiled)
        return profiled

    def _end_trace(self) -> None:
        self._tracing.close()
        self._is_tracing = False


def _write(profiled: Profiled) -> None:
    content = {
        "first_step": profiled.step - profiled.num_steps + 1,
        "num_steps": profiled.num_steps,
        "seconds_a_step": dict(profiled.seconds),
        "bottleneck": profiled.bottleneck,
    }
    write_file(profiled.directory / "summary.json", json.dumps(content, indent=1).encode())
    write_file(profiled.directory / _SUMMARY, _in_words(profiled).encode())


def _in_words(profiled: Profiled) -> str:
    seconds, bottleneck = profiled.seconds, profiled.bottleneck
    total = sum(seconds.values())
    lines = [f"A step took {total * 1e3:.2f} ms on average:"]
    lines += [
        f"{part:>14} {seconds[part] * 1e3:9.2f} ms {seconds[part] / total:6.1%}  {meaning}"
        for part, meaning in _MEANING.items()
    ]
    lines += [f"The bottleneck is {bottleneck}: {_MEANING[bottleneck]}."]
    return "\n".join(lines) + "\n"
