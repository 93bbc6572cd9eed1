"""What a key takes, in words."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from base.config import MAX_INTEGER, one_of
from base.config_reference import accepted


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
        (Path | None, "path, or null"),
    ],
)
def test_values_in_words(annotation: Any, words: str) -> None:
    assert accepted(annotation) == words
