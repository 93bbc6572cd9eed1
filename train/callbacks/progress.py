"""Progress on a terminal as one live line, elsewhere as a plain line a report."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from train.events import (
    Began,
    Callback,
    Communicated,
    Compared,
    Evaluated,
    Event,
    Losses,
    Noted,
    PeakMemory,
    Profiled,
    Resources,
    Resumed,
    RolledBack,
    Saved,
    SaveFailed,
    StepBegins,
    Stepped,
    Stopped,
    Warned,
)


@contextmanager
def show_progress(console: Console) -> Iterator[Callback]:
    """Yields a callback that shows the progress of a run on `console`."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = (
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield _Bar(progress, progress.add_task("starting", total=None))


class _Lines:
    def __init__(self, console: Console):
        self._console = console

    def __call__(self, event: Event) -> None:
        line = _describe(event)
        if line is None:
            return
        if isinstance(event, Stepped):
            width = len(str(event.num_steps))
            line = (
                f"step {event.step:>{width}}/{event.num_steps}  {line}"
                f"  lr {event.learning_rate:.2e}"
            )
        _print(self._console, line)


class _Bar:
    def __init__(self, progress: Progress, task: TaskID):
        self._progress = progress
        self._task = task
        self._pace = _Pace()

    def __call__(self, event: Event) -> None:
        match event:
            case Began():
                self._progress.update(self._task, completed=event.step, total=event.num_steps)
            case RolledBack():
                self._pace = _Pace()
                self._progress.update(self._task, completed=event.to_step)
                _print(self._progress.console, f"{_describe(event)}")
            case Stepped():
                left = self._pace.left(event)
                eta = "" if left is None else f"  ETA {timedelta(seconds=round(left))}"
                self._progress.update(
                    self._task,
                    completed=event.step,
                    total=event.num_steps,
                    description=f"{_describe(event)}{eta}",
                )
            case Evaluated(is_final=True):
                description = f"[bold]held-out[/]  {_measured(event)}"
                self._progress.update(self._task, description=description)
            case _:
                if (line := _describe(event)) is not None:
                    _print(self._progress.console, line)


class _Pace:
    """How fast steps are made, from the first report on: before it, programs are compiled."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None

    def left(self, report: Stepped) -> float | None:
        """Returns the seconds until the last step, at this process's pace; None: not known yet."""
        now = time.monotonic()
        if self._first is None:
            self._first = report.step, now
        step, since = self._first
        if report.step == step:
            return None
        return (now - since) / (report.step - step) * (report.num_steps - report.step)


def _print(console: Console, line: str) -> None:
    console.print(line, soft_wrap=True, highlight=False)


def _describe(event: Event) -> str | None:
    """Returns an event in words; None: it is none for a human."""
    match event:
        case Began() | StepBegins() | Losses() | Compared() | Resources():
            return None
        case Stepped():
            parts = [f"loss {event.loss:.4f}"]
            parts += [f"{name} {value:.4f}" for name, value in event.metrics.items()]
            parts += [f"{name} {value:.1%}" for name, value in event.fractions.items()]
            return "  ".join([*parts, f"{event.examples_per_s:,.0f} {event.unit}/s"])
        case Stopped():
            return f"stopped after {event.step} of {event.num_steps} steps: {event.reason}"
        case Evaluated():
            after = "" if event.is_final else f" after {event.step:,} steps"
            return f"{event.measured_on}{after}  {_measured(event)}"
        case RolledBack():
            return (
                f"rolled back from step {event.step:,} to {event.to_step:,}, and on with other "
                f"data: {event.reason}"
            )
        case Resumed():
            after = f"goes on after {event.step:,} steps, " if event.step else "begins "
            return f"{after}{event.description}"
        case Warned():
            return f"warning: {event.message}"
        case Profiled():
            share = event.seconds[event.bottleneck] / sum(event.seconds.values())
            return (
                f"traced {event.num_steps} steps, of which {event.bottleneck} took {share:.0%}; "
                f"see {event.directory / 'summary.txt'}"
            )
        case Noted():
            return event.message
        case Saved():
            return f"saved after {event.step:,} steps in {event.directory}"
        case SaveFailed():
            return f"warning: not saved after {event.step:,} steps: {event.reason}"
        case PeakMemory():
            device = event.device_bytes
            of_device = "" if device is None else f", {decimal(device)} of GPU"
            return f"peak memory of a rank: {decimal(event.host_bytes)}{of_device}"
        case Communicated():
            return (
                f"sent {decimal(round(event.bytes_per_step))} a step from each rank, "
                f"{event.ratio:.3f}x of float32 ({event.description})"
            )


def _measured(event: Evaluated) -> str:
    """Returns the metrics, each with its interval if it has one."""
    parts = []
    for name, value in sorted(event.metrics.items()):
        ends = event.intervals.get(name)
        interval = "" if ends is None else f" [{ends[0]:.4f}, {ends[1]:.4f}]"
        parts.append(f"{name} {value:.4f}{interval}")
    return "  ".join(parts)
