"""The page on training says of every key of a configuration what it takes, and of no other."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from optim.registry import ALGORITHMS
from train.testing.example import short_config

_PAGE = Path("docs/training.md")

# Their hyperparameters stand in docs/optimizers.md.
_OPTIMIZERS = {f"optimizer.{name}.*" for name in ALGORITHMS}


def _keys(section: BaseModel, path: str = "") -> Iterator[str]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if f"{path}{name}.*" in _OPTIMIZERS:
            yield f"{path}{name}.*"
        elif isinstance(value, BaseModel):
            yield from _keys(value, f"{path}{name}.")
        else:
            # A section that may be missing has to be there in the preset.
            assert not any(_is_section(kind) for kind in get_args(field.annotation)), name
            yield f"{path}{name}"


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def test_every_key_has_its_line() -> None:
    rows = [line for line in _PAGE.read_text().splitlines() if line.startswith("| `")]
    named = {
        key
        for row in rows
        for key in re.findall(r"`([^`]+)`", row.split("|")[1])
        if not key.startswith("-")
    }
    assert named == set(_keys(short_config(num_steps=10)))
