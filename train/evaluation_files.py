"""What an evaluation found, on disk: figures as JSON, and a confusion matrix as a picture.

evaluations/step-N.json             of the model after N steps
evaluations/validation-step-N.json  likewise, on a part of the training examples
evaluations/confusion_matrix.png    of the model that is published
"""

import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from base.files import replacing, write_file
from train.evaluation import Evaluation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CONFUSION_MATRIX = "confusion_matrix.png"

# What a model is measured on.
HELD_OUT, VALIDATION = "held-out", "validation"

_NAME = re.compile(r"(?:validation-)?step-(\d{12})\.json")

# Of more classes a picture has colours and no numbers, and of still more no names.
_MAX_NUMBERS, _MAX_NAMES = 20, 50


def write_evaluation(
    directory: Path,
    step: int,
    evaluation: Evaluation,
    *,
    weights: str,
    measured_on: str,
    class_names: Sequence[str] | None,
    with_picture: bool,
) -> None:
    """Writes an evaluation, in place of one after as many steps.

    Args:
        directory: Of a run's evaluations; made with the first of them.
        step: Updates that the model has had.
        evaluation: Of it.
        weights: Which weights were evaluated, for a human.
        measured_on: `HELD_OUT` or `VALIDATION`.
        class_names: What each class is called; None: by its number.
        with_picture: Whether to draw its confusion matrix, if it has one.

    Raises:
        OSError: They cannot be written.
    """
    directory.mkdir(exist_ok=True)
    content: dict[str, Any] = {
        "step": step,
        "weights": weights,
        "measured_on": measured_on,
        "num_examples": evaluation.num_examples,
        "num_counted": evaluation.num_counted,
        "metrics": {
            name: {"value": _number(value), "interval_95": evaluation.intervals.get(name)}
            for name, value in evaluation.metrics.items()
        },
        **evaluation.tables,
    }
    if "confusion_matrix" in evaluation.tables:
        content["class_names"] = class_names
    prefix = "validation-" if measured_on == VALIDATION else ""
    write_file(directory / f"{prefix}step-{step:012}.json", json.dumps(content).encode())
    if with_picture and "confusion_matrix" in evaluation.tables:
        with replacing(directory / CONFUSION_MATRIX) as temporary:
            figure = confusion_figure(evaluation.tables["confusion_matrix"], class_names)
            figure.savefig(temporary, format="png")


def _number(value: float) -> float | None:
    """Returns a number as JSON has it, in which there are no others than finite ones."""
    return value if math.isfinite(value) else None


def files_after(directory: Path, step: int) -> Iterator[Path]:
    """Yields what is there of evaluations after more than so many steps."""
    for path in sorted(directory.iterdir()) if directory.is_dir() else []:
        name = _NAME.fullmatch(path.name)
        if name is not None and int(name[1]) > step:
            yield path


def confusion_figure(
    matrix: Sequence[Sequence[int]], class_names: Sequence[str] | None = None
) -> "Figure":
    """Draws a confusion matrix: rows are the classes, columns what they are taken for.

    Colours are shares of a row, and numbers counts.

    Args:
        matrix: [num_classes, num_classes] counts.
        class_names: What each class is called; None: by its number.
    """
    # Takes a second to import, which a run without classes need not wait for.
    from matplotlib.figure import Figure

    counts = np.asarray(matrix)
    num_classes = len(counts)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = min(max(4.0, 0.5 * num_classes), 12.0)
    figure = Figure(figsize=(size + 1, size), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the class")
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if num_classes <= _MAX_NAMES:
        names = list(class_names or map(str, range(num_classes)))
        axes.set_xticks(range(num_classes), names, rotation=90)
        axes.set_yticks(range(num_classes), names)
    if num_classes <= _MAX_NUMBERS:
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=color)
    return figure
