"""The order of versions, and which one comes next.

Reference: Semantic Versioning 2.0.0, items 9 to 11; PyPI's `semver` implements it.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import semver

from registry.descriptor import SEMANTIC_VERSION
from registry.errors import StoreError

Bump = Literal["major", "minor", "patch"]

# What a model's first version is, whichever part is to be raised.
FIRST = "1.0.0"

# A version is part of a file's name.
MAX_LENGTH = 128


def check_version(text: str) -> None:
    """Checks that a version can be one of a store.

    Raises:
        StoreError: It is not a semantic version, is too long, or has build metadata: two versions
            that differ in it alone have no order.
    """
    if not is_version(text):
        raise StoreError(
            f"version is {text[: MAX_LENGTH + 1]!r}; expected a semantic version without build "
            f"metadata, of at most {MAX_LENGTH} characters, such as '1.0.0' or '1.1.0-rc.1'"
        )


def is_version(text: str) -> bool:
    """Whether a text can be a version of a store."""
    plain = len(text) <= MAX_LENGTH and "+" not in text
    return plain and SEMANTIC_VERSION.fullmatch(text) is not None


def parse(text: str) -> semver.Version:
    """Returns a version with its order and its parts; it is one of a store."""
    return semver.Version.parse(text)


def ascending(texts: Iterable[str]) -> list[str]:
    """Returns versions in the order of their precedence."""
    return sorted(texts, key=parse)


def newest(texts: Iterable[str]) -> str | None:
    """Returns the highest version that is no prerelease, and only if there is none, the highest."""
    ordered = ascending(texts)
    stable = [text for text in ordered if parse(text).prerelease is None]
    return next(reversed(stable or ordered), None)


def within(texts: Iterable[str], parts: Sequence[int]) -> list[str]:
    """Returns the versions that begin with these parts: (1, 2) takes 1.2.0 and 1.2.1-rc.1."""
    return [text for text in texts if parse(text).to_tuple()[: len(parts)] == tuple(parts)]


def following(texts: Iterable[str], bump: Bump) -> str:
    """Returns the version that follows the highest one.

    Args:
        texts: All versions that there are.
        bump: The part to raise. After a prerelease it may be the version that this led to: a patch
            after 1.1.0-rc.1 is 1.1.0.

    Raises:
        StoreError: There is no such part.
    """
    if bump not in get_args(Bump):
        raise StoreError(f"bump is {bump!r}; expected one of {', '.join(get_args(Bump))}")
    ordered = ascending(texts)
    return str(parse(ordered[-1]).next_version(bump)) if ordered else FIRST
