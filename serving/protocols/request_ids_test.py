"""Ids of callers are taken where they are harmless, and bounded."""

import pytest

from serving.core.errors import Kind, ServingError
from serving.protocols.request_ids import check_lengths, request_id


@pytest.mark.parametrize("given", ["a", "A-1_b.c", "0" * 128])
def test_well_formed_id_is_taken(given: str) -> None:
    assert request_id(given) == given


@pytest.mark.parametrize("given", [None, "", "0" * 129, "a b", "a\n", "ä", "a/b", 'a"b'])
def test_any_other_is_replaced(given: str | None) -> None:
    made = request_id(given)
    assert made != given
    assert request_id(made) == made  # its own are well formed
    assert request_id(given) != made


@pytest.mark.parametrize("field", ["model_name", "model_version", "id"])
@pytest.mark.parametrize("character", ["a", "ä", "€", "😀"])
def test_lengths_are_bounded_in_bytes(field: str, character: str) -> None:
    longest = character * (256 // len(character.encode()))
    values = {"model_name": "m", "model_version": "", "id": ""}

    def check(text: str) -> None:
        check_lengths(*(values | {field: text}).values())

    check(longest)
    with pytest.raises(ServingError, match=f"{field} has .* bytes; expected at most 256") as error:
        check(longest + character)
    assert error.value.kind is Kind.INVALID
