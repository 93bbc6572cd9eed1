"""What a section takes and refuses, and that a refusal says where, what and what else."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, ValidationError

from base.config import (
    FROM_LIST,
    STRICT_INTEGER,
    Section,
    explain,
    in_path,
    refuse_unheeded,
    shown,
)


class _Inner(Section):
    width: int = Field(default=1, ge=1)
    rate: float = 0.5
    bits: Annotated[Literal[1, 8], STRICT_INTEGER] = 8


class _Outer(Section):
    name: str
    inner: _Inner = _Inner()
    other: _Inner | None = None


def _problems(content: Any) -> list[str]:
    with pytest.raises(ValidationError) as refusal:
        _Outer.model_validate(content)
    return explain(refusal.value, _Outer)


def test_takes_what_it_says() -> None:
    outer = _Outer.model_validate({"name": "a", "other": {"rate": 1, "bits": 1}})
    assert outer == _Outer(name="a", other=_Inner(rate=1.0, bits=1))


def test_never_changes() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        _Inner().width = 2


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        ({"width": "8"}, "inner.width: input should be a valid integer, got '8'"),
        ({"width": 8.0}, "inner.width: input should be a valid integer, got 8.0"),
        ({"width": True}, "inner.width: input should be a valid integer, got True"),
        ({"width": 0}, "inner.width: input should be greater than or equal to 1, got 0"),
        ({"rate": float("inf")}, "inner.rate: input should be a finite number, got inf"),
        ({"rate": float("nan")}, "inner.rate: input should be a finite number, got nan"),
        ({"rate": "0.5"}, "inner.rate: input should be a valid number, got '0.5'"),
        ({"bits": True}, "inner.bits: expected an integer, got True"),
        ({"bits": 8.0}, "inner.bits: expected an integer, got 8.0"),
        ({"bits": 4}, "inner.bits: input should be 1 or 8, got 4"),
        (
            {"widht": 8},
            "inner.widht: unknown key, did you mean 'width'? (accepted: width, rate, bits)",
        ),
        ({"colour": 8}, "inner.colour: unknown key (accepted: width, rate, bits)"),
        ([8], "inner: expected a section of keys, got [8]"),
    ],
)
def test_refuses_with_the_path_and_what_is_accepted(inner: Any, message: str) -> None:
    assert _problems({"name": "a", "inner": inner}) == [message]


def test_names_the_keys_of_a_section_that_may_be_absent() -> None:
    (problem,) = _problems({"name": "a", "other": {"colour": 1}})
    assert problem == "other.colour: unknown key (accepted: width, rate, bits)"


def test_lists_every_problem() -> None:
    assert _problems({"inner": {"width": 0}, "colour": 1}) == [
        "name: missing, but required",
        "inner.width: input should be greater than or equal to 1, got 0",
        "colour: unknown key (accepted: name, inner, other)",
    ]


def test_long_input_is_cut() -> None:
    (problem,) = _problems({"name": ["x" * 10**6]})
    assert len(problem) < 300
    assert len(in_path(["k" * 10**6, 3])) < 70
    assert len(shown("x" * 10**6)) < 210


class _Layer(Section):
    width: int


class _Stack(Section):
    layers: list[_Layer]
    by_name: dict[str, _Layer]


def test_sections_in_lists_and_mappings_are_named() -> None:
    with pytest.raises(ValidationError) as error:
        _Stack.model_validate(
            {"layers": [{"width": 3, "wdith": 4}], "by_name": {"a": {"width": 1, "depth": 2}}}
        )
    assert explain(error.value, _Stack) == [
        "layers.0.wdith: unknown key, did you mean 'width'? (accepted: width)",
        "by_name.a.depth: unknown key, did you mean 'width'? (accepted: width)",
    ]


class _Switched(Section):
    on: bool = False
    size: int = 3
    name: str = "a"


def test_keys_without_effect_are_refused_unless_they_are_at_their_defaults() -> None:
    refuse_unheeded(_Switched(), heeded="with on")
    refuse_unheeded(_Switched(on=True, size=3), ["size", "name"], heeded="with on")
    with pytest.raises(
        ValueError, match=r"inner\.size 4 has an effect with on alone; leave it out"
    ):
        refuse_unheeded(_Switched(size=4), ["size"], heeded="with on", prefix="inner.")
    with pytest.raises(ValueError, match="^inner has an effect with a name alone; leave it out"):
        refuse_unheeded(_Outer(name="", inner=_Inner(width=2)), ["inner"], heeded="with a name")


class _Listed(Section):
    sizes: Annotated[tuple[int, ...], FROM_LIST] = Field(min_length=1, max_length=3)


def test_a_list_becomes_what_cannot_change() -> None:
    assert _Listed.model_validate({"sizes": [1, 2]}).sizes == (1, 2)
    assert _Listed.model_validate_json('{"sizes": [1, 2]}').sizes == (1, 2)
    with pytest.raises(ValueError, match="valid integer"):
        _Listed.model_validate({"sizes": [1.0]})


@pytest.mark.parametrize(
    ("sizes", "problems"),
    [
        ([], ["sizes: expected a list of at least 1, got []"]),
        ([1, 2, 3, 4], ["sizes: expected a list of at most 3, got [1, 2, 3, 4]"]),
        (5, ["sizes: expected a list, got 5"]),
        ([8.0], ["sizes.0: input should be a valid integer, got 8.0"]),
        (
            ["a", 2, None],
            [
                "sizes.0: input should be a valid integer, got 'a'",
                "sizes.2: input should be a valid integer, got None",
            ],
        ),
    ],
)
def test_lists_are_refused_by_what_is_wrong_with_them(sizes: Any, problems: list[str]) -> None:
    with pytest.raises(ValidationError) as error:
        _Listed.model_validate({"sizes": sizes})
    assert explain(error.value, _Listed) == problems
