"""The reference says of every key what the schema does with it."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from base.config_reference import as_yaml
from train.config.reference import leaves, parts
from train.testing.example import short_config

# What a run cannot be without, and nobody can choose for another.
_REQUIRED = {"artifact.name", "run.num_steps", "data.source", "model.architecture"}


def _keys(section: BaseModel, path: str = "") -> Iterator[tuple[str, Any]]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _keys(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def test_every_key_of_a_configuration_is_there() -> None:
    found = {leaf.path for leaf in leaves()}
    # A section that is left out is there by what it could hold.
    found |= {path.rpartition(".")[0] for path in found}
    assert {key for key, _ in _keys(short_config(num_steps=10))} <= found


def test_there_are_200_keys_that_mean_different_things() -> None:
    """A layer that stands in two networks, or twice in one, counts once."""
    assert len({leaf.meaning for leaf in leaves()}) >= 200


def test_defaults_are_what_a_configuration_has_that_gives_none() -> None:
    given = {"artifact", "run", "model", "data", "loss"}
    least = short_config(num_steps=10).model_dump(include=given)
    least["data"].pop("augment")
    values = dict(_keys(type(short_config(num_steps=10)).model_validate(least)))
    for part in parts():
        if part.path.split(".")[0] not in given:
            for leaf in part.leaves:
                assert leaf.default == as_yaml(values[leaf.path]), leaf.path


def test_a_section_that_stands_in_several_places_says_what_each_is_for() -> None:
    purposes = {(part.path, part.condition): part.purpose for part in parts()}
    assert purposes["regularization.dropout", ""] == (
        "A factor that goes from `initial` to `final` while a run goes from `begin` to `end`. "
        "Here: of every rate of dropout but attention's own."
    )
    places = list(purposes.values())
    # Of the same keys for two networks, and of one optimizer after another, the path tells enough.
    twice = {path for (path, _), purpose in purposes.items() if places.count(purpose) > 1}
    assert all(path.startswith("model.config.") for path in twice), twice


@pytest.mark.parametrize("leaf", leaves(), ids=lambda leaf: f"{leaf.path}-{leaf.owner.__name__}")
def test_a_key_is_described_and_limited(leaf: Any) -> None:
    assert leaf.description
    assert leaf.description[0] != leaf.description[0].upper() or not leaf.description[0].isalpha()
    # What a network looks like only its user can say.
    assert (
        leaf.default is not None or leaf.path in _REQUIRED or leaf.path.startswith("model.config")
    )
    kinds = ("integer", "number", "list of: integer", "list of: number")
    assert leaf.accepted not in kinds, "numbers have a least or a greatest"
