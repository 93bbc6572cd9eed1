"""Every key of a configuration does something: another value makes another run.

For each key of the schema, whoever declares it, another valid value is set in a small run that
heeds it, and the run must come to something else: other weights, batches, events, another artifact,
another set-up. A key for which that cannot be shown fails; see `tests/effects/`.
"""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from base.config_reference import Leaf, Part
from tests.effects.bases import BASES, bases
from tests.effects.content import Content, get, merged, with_value
from tests.effects.needs import together, with_what_it_needs
from tests.effects.outcome import Outcome, outcome_of
from tests.effects.values import others
from train.config.reference import parts
from train.config.schema import TrainConfig
from train.launch.process_group import join_alone

_LEAVES = [(part, leaf) for part in parts() for leaf in part.leaves]

# Of each run, values that change nothing before it is given up; a run of the next may show more.
_MAX_TRIES = 3


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    join_alone()
    directory, numbers = tmp_path_factory.mktemp("runs"), count()
    known: dict[str, Outcome] = {}

    def outcome(config: TrainConfig) -> Outcome:
        if config.digest not in known:
            known[config.digest] = outcome_of(config, directory / str(next(numbers)))
        return known[config.digest]

    return outcome


def _parsed(content: Content) -> TrainConfig | None:
    try:
        return TrainConfig.model_validate(content)
    except ValidationError:
        return None


def _changed(leaf: Leaf, content: Content, config: TrainConfig) -> Iterator[TrainConfig]:
    """Yields valid configurations that differ from one in the value of a key."""
    changes = [{leaf.path: value} for value in others(leaf, get(config.model_dump(), leaf.path))]
    for change in [*together(leaf), *changes]:
        other = content
        for path, value in change.items():
            other = with_value(other, path, value)
        if (changed := _parsed(other)) is not None:
            yield changed


@pytest.mark.parametrize(("name", "content"), BASES.items(), ids=list(BASES))
def test_a_run_comes_to_the_same_again(name: str, content: Content, tmp_path: Path) -> None:
    """Otherwise whatever else is set would seem to change it."""
    join_alone()
    config = TrainConfig.model_validate(content)
    assert outcome_of(config, tmp_path / "one") == outcome_of(config, tmp_path / "other")


def test_a_key_that_is_not_heeded_is_found_out(run: Any) -> None:
    content = BASES["perceptron"]
    unheeded = {"optimizer": {"name": "adamw", "lion": {"beta1": 0.5}}}
    one, other = (_parsed(merged(content, change)) for change in ({}, unheeded))
    assert one is not None and other is not None
    assert one.digest != other.digest
    assert run(one) == run(other)


@pytest.mark.parametrize(
    ("part", "leaf"), _LEAVES, ids=lambda item: getattr(item, "condition", "") or item.path
)
def test_another_value_makes_another_run(part: Part, leaf: Leaf, run: Any) -> None:
    tried = []
    for name, base in bases(part):
        content = with_what_it_needs(leaf, base)
        config = _parsed(content)
        if config is None or get(config.model_dump(), part.path) is None:
            continue  # what it needs does not fit here, or there is no such section
        for number, changed in enumerate(_changed(leaf, content, config)):
            if number == _MAX_TRIES:
                break
            if run(config) != run(changed):
                return
            value = get(changed.model_dump(), leaf.path)
            tried.append(f"{name}: {value!r}")
    if tried:
        pytest.fail(f"{leaf.path} changes nothing: {'; '.join(tried)}")
    pytest.fail(f"{leaf.path}: no run of tests/effects/bases.py takes another value")
