"""References, by which people and programs name a version, the same everywhere.

digits                 the newest version that is not archived
digits:1, digits:1.2   the newest one within 1, within 1.2
digits:1.2.0           that version, be it a prerelease or archived
digits@champion        the version that an alias means
sha256:01ab...         the version with that digest: at least 12 digits of it, or all 64 alone
"""

import re
from typing import NamedTuple

from registry.descriptor import MAX_NAME_LENGTH, NAME, SHA256
from registry.errors import BadReferenceError
from registry.store.versions import is_version

MIN_DIGITS = 12

ACCEPTED = (
    "'digits', 'digits:1', 'digits:1.2', 'digits:1.2.0', 'digits@champion' or 'sha256:' and at "
    f"least {MIN_DIGITS} digits"
)

# Before ':' it says that digits of a digest follow; no model can have that name.
DIGEST_PREFIX = "sha256"

_DIGITS = re.compile(rf"[0-9a-f]{{{MIN_DIGITS},64}}")
_PARTS = re.compile(r"(0|[1-9][0-9]{0,8})(?:\.(0|[1-9][0-9]{0,8}))?")
_MAX_SHOWN = 200


class Newest(NamedTuple):
    """The newest version that is not archived.

    Attributes:
        name: of the model.
        parts: () or what its version begins with: (major,) or (major, minor).
    """

    name: str
    parts: tuple[int, ...]


class Exact(NamedTuple):
    """One version of a model."""

    name: str
    version: str


class ByAlias(NamedTuple):
    """What an alias of a model means."""

    name: str
    alias: str


class ByDigest(NamedTuple):
    """The version whose artifact's digest begins so."""

    digits: str


Reference = Newest | Exact | ByAlias | ByDigest


def parse_reference(text: str) -> Reference:
    """Returns what a reference says; whether there is such a version is for a store to tell.

    Raises:
        BadReferenceError: It is none.
    """
    if SHA256.fullmatch(text):
        return ByDigest(text)
    if text.startswith(f"{DIGEST_PREFIX}:"):
        digits = text.removeprefix(f"{DIGEST_PREFIX}:")
        if not _DIGITS.fullmatch(digits):
            raise _refused(text, f"expected {MIN_DIGITS} to 64 lower-case hexadecimal digits")
        return ByDigest(digits)
    if "@" in text:
        name, _, alias = text.partition("@")
        if not is_name(alias):
            raise _refused(text, f"{alias[:_MAX_SHOWN]!r} can be no alias")
        return ByAlias(_name(text, name), alias)
    name, colon, version = text.partition(":")
    _name(text, name)
    if not colon:
        return Newest(name, ())
    if parts := _PARTS.fullmatch(version):
        return Newest(name, tuple(int(part) for part in parts.groups() if part is not None))
    if not is_version(version):
        raise _refused(text, f"{version[:_MAX_SHOWN]!r} can be no version")
    return Exact(name, version)


def is_name(text: str) -> bool:
    """Whether a text can name a model or an alias."""
    return len(text) <= MAX_NAME_LENGTH and NAME.fullmatch(text) is not None


def _name(text: str, name: str) -> str:
    if not is_name(name):
        raise _refused(text, f"{name[:_MAX_SHOWN]!r} can be no model's name")
    return name


def _refused(text: str, reason: str) -> BadReferenceError:
    return BadReferenceError(f"{text[:_MAX_SHOWN]!r} is no reference: {reason}; write {ACCEPTED}")
