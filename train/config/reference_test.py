"""The reference says of every key what the schema does with it."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from base.config import MAX_INTEGER, one_of
from train.config.reference import accepted, as_yaml, leaves, parts
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


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (Annotated[int, Field(ge=1, le=5)], "integer from 1 to 5"),
        (Annotated[int, Field(ge=0, le=MAX_INTEGER)], "integer from 0"),
        (Annotated[float, Field(gt=0, le=1)], "number above 0, to 1"),
        (Annotated[float, Field(ge=0, lt=1)], "number from 0, below 1"),
        (Annotated[int | None, Field(ge=2)], "integer from 2, or null"),
        (Literal["one", "two", None], "one of one, two, null"),
        (Annotated[str, one_of({"this": 1, "that": 2})], "one of this, that"),
        (
            Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1, max_length=9)],
            "list (1 to 9) of: integer from 1",
        ),
        (bool, "boolean"),
    ],
)
def test_values_in_words(annotation: Any, words: str) -> None:
    assert accepted(annotation) == words
