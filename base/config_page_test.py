"""Tables are of the sections, and what a person wrote stays."""

import pytest
from pydantic import Field

from base.config import Section
from base.config_page import page
from base.config_reference import parts

MARK = "<!-- What follows is made. -->"


class Inner(Section):
    """What stands within. And more of it, which no table needs.

    This neither.
    """

    rate: float | None = Field(default=0.5, gt=0, le=1, description="how often, a|b")


class Outer(Section):
    """All of it."""

    name: str = Field(description="which")
    inner: Inner = Field(default=Inner(), description="the first")


def test_what_is_written_by_hand_stays_and_the_rest_is_made() -> None:
    made = page(f"# By hand\n\n{MARK}\nold tables\n", MARK, parts(Outer))
    assert (
        made
        == f"""# By hand

{MARK}

## Top level

All of it.

| key | value | default | |
| --- | --- | --- | --- |
| `name` | text |  | which |

## `inner`

What stands within. And more of it, which no table needs. Here: the first.

| key | value | default | |
| --- | --- | --- | --- |
| `inner.rate` | number above 0, to 1, or null | `0.5` | how often, a&#124;b |
"""
    )
    assert page(made, MARK, parts(Outer)) == made


@pytest.mark.parametrize("written", ["", MARK * 2])
def test_a_page_has_one_mark(written: str) -> None:
    with pytest.raises(ValueError, match="expected one line"):
        page(written, MARK, parts(Outer))
