"""docs/serving.md says what the code does."""

import re
from pathlib import Path

import pytest

from serving.command_line import accepted, flag
from serving.config import GatewayConfig
from serving.deployment import MAX_ONGOING_REQUESTS, MAX_QUEUED_REQUESTS
from serving.server import MIN_PING_INTERVAL_MS
from serving.service import STATUSES

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "serving.md").read_text()


def rows(header: str) -> list[list[str]]:
    """The cells of the table whose header begins so."""
    _, _, table = PAGE.partition(f"\n| {header}")
    lines = table.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def default_of(name: str) -> str:
    field = GatewayConfig.model_fields[name]
    if field.is_required():
        return "required"
    return "" if field.default is None else str(field.default)


def test_options_are_those_of_the_program() -> None:
    assert rows("option") == [
        [f"`{flag(name)}`", default_of(name), accepted(GatewayConfig, name), field.description]
        for name, field in GatewayConfig.model_fields.items()
    ]


def test_statuses_are_those_of_the_service() -> None:
    told = {what.partition(":")[0]: status for what, status in rows("what went wrong")}
    assert told.popitem()[1] == "INTERNAL"  # anything else
    assert told == {error.__name__: code.name for error, code in STATUSES.items()}


@pytest.mark.parametrize(
    "words",
    [
        f"{MAX_ONGOING_REQUESTS} requests run or are next in line in each replica, and "
        f"{MAX_QUEUED_REQUESTS} more wait",
        f"ping every {MIN_PING_INTERVAL_MS // 1000} s",
    ],
)
def test_limits_are_those_of_the_code(words: str) -> None:
    assert words in " ".join(PAGE.split())


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((\.\./[^)#]+)", PAGE)
    assert links
    assert [link for link in links if not (DOCS / link).exists()] == []
