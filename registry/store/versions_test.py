"""The order of versions is that of the specification, written down here a second time."""

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import StoreError
from registry.store.versions import (
    MAX_LENGTH,
    ascending,
    check_version,
    following,
    is_version,
    newest,
    within,
)

numbers = st.integers(0, 12)
identifiers = st.one_of(
    numbers.map(str), st.from_regex(r"[0-9a-zA-Z-]{0,3}[a-zA-Z-][0-9a-zA-Z-]{0,2}", fullmatch=True)
)
versions = st.builds(
    lambda core, pre: ".".join(map(str, core)) + ("-" + ".".join(pre) if pre else ""),
    st.tuples(numbers, numbers, numbers),
    st.lists(identifiers, max_size=3),
)

# Item 11 of Semantic Versioning 2.0.0, its own examples in its own order.
SPECIFIED = [
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
    "2.0.0",
    "2.1.0",
    "2.1.1",
]


def compare(one: str, other: str) -> int:
    """Compares two versions as items 11.2 to 11.4 of the specification say, word by word."""
    cores, pres = [], []
    for version in (one, other):
        core, _, pre = version.partition("-")
        cores.append([int(number) for number in core.split(".")])
        pres.append(pre.split(".") if pre else [])
    if cores[0] != cores[1]:
        return -1 if cores[0] < cores[1] else 1
    if bool(pres[0]) != bool(pres[1]):
        return -1 if pres[0] else 1
    for a, b in zip(*pres, strict=False):
        if a == b:
            continue
        if a.isdigit() and b.isdigit():
            return -1 if int(a) < int(b) else 1
        if a.isdigit() != b.isdigit():
            return -1 if a.isdigit() else 1
        return -1 if a < b else 1
    return (len(pres[0]) > len(pres[1])) - (len(pres[0]) < len(pres[1]))


def test_orders_the_examples_of_the_specification() -> None:
    assert ascending(reversed(SPECIFIED)) == SPECIFIED


@given(st.lists(versions, max_size=8, unique=True))
def test_orders_as_the_specification_says(given: list[str]) -> None:
    assert all(map(is_version, given))
    assert ascending(given) == sorted(given, key=functools.cmp_to_key(compare))


@given(st.lists(versions, min_size=1, max_size=8), st.sampled_from(["major", "minor", "patch"]))
def test_what_follows_is_higher_than_all_and_stable(given: list[str], bump: str) -> None:
    found = following(given, bump)
    assert "-" not in found
    assert all(compare(version, found) < 0 for version in given)


@pytest.mark.parametrize(
    ("given", "bump", "expected"),
    [
        ([], "patch", "1.0.0"),
        ([], "major", "1.0.0"),
        (["1.2.3"], "patch", "1.2.4"),
        (["1.2.3"], "minor", "1.3.0"),
        (["1.2.3"], "major", "2.0.0"),
        (["1.2.3", "1.10.0", "1.9.0"], "patch", "1.10.1"),
        (["1.2.3-rc.1"], "patch", "1.2.3"),
        (["0.1.0"], "minor", "0.2.0"),
    ],
)
def test_what_follows(given: list[str], bump: str, expected: str) -> None:
    assert following(given, bump) == expected


def test_refuses_to_bump_another_part() -> None:
    with pytest.raises(StoreError, match=r"bump is 'build'; expected one of major, minor, patch"):
        following(["1.0.0"], "build")


def test_newest_is_stable_unless_there_is_none() -> None:
    assert newest(["1.0.0", "2.0.0-rc.1", "1.1.0"]) == "1.1.0"
    assert newest(["1.0.0-rc.1", "1.0.0-rc.10", "1.0.0-rc.9"]) == "1.0.0-rc.10"
    assert newest([]) is None


def test_within() -> None:
    given = ["1.0.0", "1.2.0", "1.2.9-rc.1", "1.20.0", "12.0.0"]
    assert within(given, ()) == given
    assert within(given, (1,)) == ["1.0.0", "1.2.0", "1.2.9-rc.1", "1.20.0"]
    assert within(given, (1, 2)) == ["1.2.0", "1.2.9-rc.1"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1.0",
        "01.0.0",
        "1.0.0-01",
        "v1.0.0",
        "1.0.0+build",
        "1.0.0\n",
        "1.0.0/..",
        "\u0661.0.0",
        f"1.0.0-{'a' * MAX_LENGTH}",
        "1.0.0-",
        "-1.0.0",
    ],
)
def test_refuses_what_can_be_no_version_of_a_store(text: str) -> None:
    with pytest.raises(StoreError, match="expected a semantic version without build metadata"):
        check_version(text)
