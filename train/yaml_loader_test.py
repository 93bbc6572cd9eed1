"""YAML 1.2's rules hold where PyYAML's 1.1 differ."""

import pytest
import yaml

from train.yaml_loader import StrictLoader


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        ("-2e+3", -2e3),
        ("1.5e-3", 1.5e-3),
        (".5", 0.5),
        ("3", 3),
        ("0x10", 16),
        ("true", True),
        ("1.0.0", "1.0.0"),
        ("e5", "e5"),
        ("'1e-3'", "1e-3"),
    ],
)
def test_scalars(text: str, value: object) -> None:
    loaded = yaml.load(text, StrictLoader)
    assert loaded == value
    assert type(loaded) is type(value)


@pytest.mark.parametrize(
    "text", ["a: 1\na: 2", "b: {a: 1, a: 1}", "- a: 1\n  a: 2", "1: a\n1: b", "a: 1\n'a': 2"]
)
def test_a_key_given_twice_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(yaml.YAMLError, match=r"(?s)is given twice.*line \d"):
        yaml.load(text, StrictLoader)


def test_the_same_key_in_two_mappings_is_fine() -> None:
    assert yaml.load("a: {x: 1}\nb: {x: 2}", StrictLoader) == {"a": {"x": 1}, "b": {"x": 2}}


def test_constructs_no_python_objects() -> None:
    with pytest.raises(yaml.YAMLError, match="python/object"):
        yaml.load("!!python/object/apply:os.getcwd []", StrictLoader)
