"""Ids that a caller may choose: of the request in logs, and of the message in the protocol."""

import itertools
import re
import secrets

from serving.core.errors import invalid

# The name of the metadata in gRPC, and of the header in HTTP. A caller's own is taken if it fits
# into a line of the log and a label of a trace as it is.
HEADER = "x-request-id"
_WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{1,128}")

# Of the protocol's field `id`, which is sent back, and of names of models and versions.
MAX_ID_BYTES = 256
MAX_NAME_BYTES = 256

# Unlike random numbers these cost next to nothing, and no two processes make the same.
_process = secrets.token_hex(6)
_numbers = itertools.count(1)


def request_id(given: str | None) -> str:
    """The caller's id of a request if it is well formed, otherwise a new one."""
    if given is not None and _WELL_FORMED.fullmatch(given):
        return given
    return f"{_process}-{next(_numbers):x}"


def check_lengths(model: str, version: str, message_id: str) -> None:
    """Refuses names and ids that would bloat logs, errors and replies.

    Raises:
        ServingError: INVALID; the message says which and how long it may be.
    """
    # No character takes more than four bytes, so that most need not be encoded.
    if len(model) > MAX_NAME_BYTES // 4:
        _check("model_name", model, MAX_NAME_BYTES)
    if len(version) > MAX_NAME_BYTES // 4:
        _check("model_version", version, MAX_NAME_BYTES)
    if len(message_id) > MAX_ID_BYTES // 4:
        _check("id", message_id, MAX_ID_BYTES)


def _check(field: str, text: str, limit: int) -> None:
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > limit:
        raise invalid(f"{field} has {size} bytes; expected at most {limit}")
