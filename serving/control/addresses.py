"""Which Ray a gateway uses, as a user says it."""

import re

# A private one, of this gateway alone.
LOCAL = "local"

# The one that runs on this machine; Ray itself looks for it, also in RAY_ADDRESS.
AUTO = "auto"

_HOST_AND_PORT = re.compile(r"[^\s/:]+:\d{1,5}|\[[0-9A-Fa-f:]+\]:\d{1,5}")


def check_ray_address(ray_address: str) -> str:
    """Returns what a user said, if it names a Ray.

    Raises:
        ValueError: It names none; the message says what does.
    """
    if ray_address in (LOCAL, AUTO) or _HOST_AND_PORT.fullmatch(ray_address):
        return ray_address
    raise ValueError(
        f"{ray_address!r} is no Ray; use {LOCAL!r} for one of this gateway's own, {AUTO!r} for the "
        "one that runs on this machine, or HOST:PORT of a cluster that this machine is part of"
    )
