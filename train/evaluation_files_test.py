"""An evaluation is read back as it was, and its picture has every count where it belongs."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from train.evaluation import Evaluation
from train.evaluation_files import (
    CONFUSION_MATRIX,
    HELD_OUT,
    VALIDATION,
    confusion_figure,
    files_after,
    write_evaluation,
)

_MATRIX = [[5, 1, 0], [0, 0, 0], [2, 0, 7]]
_EVALUATION = Evaluation(
    metrics={"accuracy": 0.8, "calibration_error": 0.1},
    intervals={"accuracy": (0.5, 0.9)},
    num_examples=15,
    num_counted=15,
    tables={"confusion_matrix": _MATRIX},
)


def test_is_read_back(tmp_path: Path) -> None:
    names = ("ant", "bee", "cat")
    directory = tmp_path / "evaluations"
    for step in (7, 20):
        write_evaluation(
            directory,
            step,
            _EVALUATION,
            weights="latest",
            measured_on=HELD_OUT if step == 20 else VALIDATION,
            class_names=names,
            with_picture=step == 20,
        )
    assert {path.name for path in directory.iterdir()} == {
        "validation-step-000000000007.json",
        "step-000000000020.json",
        CONFUSION_MATRIX,
    }
    assert json.loads((directory / "step-000000000020.json").read_text()) == {
        "step": 20,
        "weights": "latest",
        "measured_on": "held-out",
        "num_examples": 15,
        "num_counted": 15,
        "metrics": {
            "accuracy": {"value": 0.8, "interval_95": [0.5, 0.9]},
            "calibration_error": {"value": 0.1, "interval_95": None},
        },
        "confusion_matrix": _MATRIX,
        "class_names": list(names),
    }
    height, width, _ = imread(directory / CONFUSION_MATRIX).shape
    assert min(height, width) > 100
    assert [path.name for path in files_after(directory, 7)] == ["step-000000000020.json"]
    assert len(list(files_after(directory, 6))) == 2
    assert list(files_after(tmp_path / "missing", 0)) == []


@pytest.mark.parametrize("with_picture", [True, False])
def test_what_has_no_classes_has_no_picture(tmp_path: Path, with_picture: bool) -> None:
    plain = Evaluation({"mse": 1.0, "r2": math.nan}, {}, 3, 6, {})
    write_evaluation(
        tmp_path,
        1,
        plain,
        weights="latest",
        measured_on=HELD_OUT,
        class_names=None,
        with_picture=with_picture,
    )
    (path,) = tmp_path.iterdir()
    found = json.loads(path.read_text())["metrics"]
    assert {name: metric["value"] for name, metric in found.items()} == {"mse": 1.0, "r2": None}


@pytest.mark.parametrize(
    ("names", "shown"), [(("ant", "bee", "cat"), ["ant", "bee", "cat"]), (None, ["0", "1", "2"])]
)
def test_picture(names: tuple[str, ...] | None, shown: list[str]) -> None:
    axes, *_ = confusion_figure(_MATRIX, names).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == shown
    assert [label.get_text() for label in axes.get_yticklabels()] == shown
    counts = {text.get_position(): text.get_text() for text in axes.texts}
    assert counts == {(x, y): str(_MATRIX[y][x]) for x in range(3) for y in range(3)}
    (image,) = axes.images
    shares = [[5 / 6, 1 / 6, 0], [0, 0, 0], [2 / 9, 0, 7 / 9]]
    np.testing.assert_allclose(image.get_array(), shares)


def test_picture_of_many_classes() -> None:
    axes, *_ = confusion_figure(np.eye(60, dtype=np.int64).tolist()).axes
    assert not axes.texts
