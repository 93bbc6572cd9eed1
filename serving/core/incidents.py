"""Faults of our own: the log has the cause, the caller a number by which to find it there."""

import logging
import secrets

from serving.core.errors import Kind, ServingError

_log = logging.getLogger(__name__)


def incident(fault: BaseException) -> ServingError:
    """Logs an unexpected exception, and returns what the caller may know of it.

    The text of an exception can hold paths, names and data of others.
    """
    number = secrets.token_hex(8)
    _log.error("request failed, incident %s", number, exc_info=fault)
    return ServingError(Kind.INTERNAL, f"internal error, incident {number}")
