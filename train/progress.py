"""Progress on a terminal as one live line, elsewhere as a plain line a report."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from train.callbacks import Callback, CommunicationReport, StepReport


@contextmanager
def show_progress(console: Console, num_steps: int) -> Iterator[Callback]:
    """Yields a callback that shows the progress of a run of `num_steps` steps on `console`."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = (
        BarColumn(bar_width=12),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield _Bar(progress, progress.add_task("starting", total=num_steps))


class _Lines:
    def __init__(self, console: Console):
        self._console = console

    def on_step(self, report: StepReport) -> None:
        width = len(str(report.num_steps))
        line = (
            f"step {report.step:>{width}}/{report.num_steps}  {_describe(report)}"
            f"  lr {report.learning_rate:.2e}"
        )
        self._print(line)

    def on_evaluation(self, metrics: Mapping[str, float]) -> None:
        self._print(f"held-out  {_list(metrics)}")

    def on_communication(self, report: CommunicationReport) -> None:
        self._print(_describe_communication(report))

    def _print(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, highlight=False)


class _Bar:
    def __init__(self, progress: Progress, task: TaskID):
        self._progress = progress
        self._task = task

    def on_step(self, report: StepReport) -> None:
        self._progress.update(self._task, completed=report.step, description=_describe(report))

    def on_evaluation(self, metrics: Mapping[str, float]) -> None:
        description = f"[bold]held-out[/]  {_list(metrics)}"
        self._progress.update(self._task, description=description)

    def on_communication(self, report: CommunicationReport) -> None:
        line = _describe_communication(report)
        self._progress.console.print(line, soft_wrap=True, highlight=False)


def _describe(report: StepReport) -> str:
    parts = [f"loss {report.loss:.4f}", f"accuracy {report.accuracy:.4f}"]
    if report.clipped_fraction is not None:
        parts.append(f"clipped {report.clipped_fraction:.1%}")
    return "  ".join([*parts, f"{report.images_per_s:,.0f} images/s"])


def _describe_communication(report: CommunicationReport) -> str:
    return (
        f"sent {decimal(round(report.bytes_per_step))} a step from each rank, "
        f"{report.ratio:.3f}x of float32 ({report.description})"
    )


def _list(metrics: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in sorted(metrics.items()))
