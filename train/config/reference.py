"""Every key of a training configuration, those of every table included.

`--help-config`, `docs/configuration.md` and the tests of the schema are made of this.
"""

from collections.abc import Iterator

from base.config_reference import Choice, Leaf, Part
from base.config_reference import parts as parts_of
from data.source import SOURCES
from models.architecture import ARCHITECTURES
from train.config.schema import TrainConfig
from train.tasks.table import TASKS


def choices() -> dict[str, Choice]:
    """Returns the sections whose keys depend on a name, by path, as their tables are by now."""
    return {
        "model.config": Choice(
            "model.architecture", {name: one.config for name, one in ARCHITECTURES.items()}
        ),
        "data.options": Choice("data.source", {name: one.options for name, one in SOURCES.items()}),
        "loss": Choice("task", {name: one.loss for name, one in TASKS.items()}),
    }


def parts() -> Iterator[Part]:
    """Yields every section that has keys with values."""
    yield from parts_of(TrainConfig, choices())


def leaves() -> list[Leaf]:
    """Returns every key that has a value."""
    return [leaf for part in parts() for leaf in part.leaves]
