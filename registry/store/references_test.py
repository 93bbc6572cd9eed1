"""References say one thing each, and everything else is refused in one line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import BadReferenceError
from registry.store.references import (
    ByAlias,
    ByDigest,
    Exact,
    Newest,
    Reference,
    parse_reference,
)

DIGEST = "0123456789abcdef" * 4

names = st.from_regex(r"[a-z0-9]{1,5}([._-][a-z0-9]{1,5}){0,2}", fullmatch=True).filter(
    lambda name: name != "sha256"
)
numbers = st.integers(0, 10**6)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("digits", Newest("digits", ())),
        ("digits:1", Newest("digits", (1,))),
        ("digits:1.2", Newest("digits", (1, 2))),
        ("digits:1.2.0", Exact("digits", "1.2.0")),
        ("digits:1.2.0-rc.1", Exact("digits", "1.2.0-rc.1")),
        ("digits@champion", ByAlias("digits", "champion")),
        (f"sha256:{DIGEST}", ByDigest(DIGEST)),
        (f"sha256:{DIGEST[:12]}", ByDigest(DIGEST[:12])),
        (DIGEST, ByDigest(DIGEST)),
        # A name of 63 digits is one, as no digest has so few.
        (DIGEST[:63], Newest(DIGEST[:63], ())),
    ],
)
def test_what_references_say(text: str, expected: Reference) -> None:
    assert parse_reference(text) == expected


@given(names, st.lists(numbers, max_size=3))
def test_parts_come_back(name: str, parts: list[int]) -> None:
    text = f"{name}:{'.'.join(map(str, parts))}" if parts else name
    expected = (
        Exact(name, text.partition(":")[2]) if len(parts) == 3 else Newest(name, tuple(parts))
    )
    assert parse_reference(text) == expected


@given(names, names)
def test_aliases_come_back(name: str, alias: str) -> None:
    assert parse_reference(f"{name}@{alias}") == ByAlias(name, alias)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Digits",
        "digits ",
        "digits:",
        "digits@",
        "digits:v1",
        "digits:01",
        "digits:1.",
        "digits:1.2.3.4",
        "digits:1.2.0+build",
        "digits:1:2",
        "digits@a@b",
        "digits@Champion",
        "digits@champion:1",
        "../digits",
        "digits/versions",
        "digits:../1.0.0",
        "digits@../../x",
        "a..b",
        "a" * 65,
        "sha256:",
        f"sha256:{DIGEST[:11]}",
        f"sha256:{DIGEST}0",
        f"sha256:{DIGEST.upper()}",
        f"sha256:{DIGEST[:12]}\n",
        "digits\n",
        "digits:" + "9" * 5000,
        "\0",
        "\uff44igits",
    ],
)
def test_refuses_what_is_no_reference(text: str) -> None:
    with pytest.raises(BadReferenceError) as raised:
        parse_reference(text)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 800


@given(st.text())
def test_any_text_is_a_reference_or_is_refused(text: str) -> None:
    try:
        found = parse_reference(text)
    except BadReferenceError:
        return
    # No part of it can lead out of a directory, or mean a hidden file.
    for part in (str(part) for part in found):
        assert "/" not in part
        assert not part.startswith(".")
        assert part.isascii()
