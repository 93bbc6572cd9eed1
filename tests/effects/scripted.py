"""What the callbacks of a configuration answer to a run that was made up."""

from collections.abc import Iterator

from train.callbacks.callbacks import Callbacks
from train.callbacks.table import judges_of
from train.config.schema import TrainConfig
from train.events import Evaluated, Event, Losses
from train.tasks.table import TASKS

# Of a metric at each evaluation: better, by little, worse, for long; then better once more.
_COURSE = (0.5, 0.6, 0.601, 0.55, 0.6, 0.4, 0.6, 0.6, 0.3, 0.9, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5)


def answers(config: TrainConfig) -> list[str]:
    """Returns what is answered to each event, in order."""
    callbacks = Callbacks(judges_of(config))
    found = []
    for event in _events(config):
        callbacks.tell(event)
        found.append(f"{callbacks.take_answers()} {callbacks.failure}")
    return found


def _events(config: TrainConfig) -> Iterator[Event]:
    """Yields the events of a run whose metrics differ and whose loss is lost at last."""
    names = TASKS[config.task].directions(config.data.describe())
    for step, value in enumerate(_COURSE, start=1):
        yield Losses(step, [1 / step], {})
        metrics = {
            name: value if number % 2 else 1 - value / (1 + number)
            for number, name in enumerate(names)
        }
        yield Evaluated(step, metrics, is_final=False)
    yield Losses(len(_COURSE) + 1, [1.0, 50.0, *3 * [float("nan")]], {})
