"""How long to wait before one tries again what another writer was quicker at."""

import secrets
import time

# Doubled with each attempt, up to the longest; drawn anew, so that no two keep meeting.
_FIRST_MS = 10
_LONGEST_MS = 2000


def wait_before(attempt: int) -> None:
    """Waits before the second attempt, 1, and those after it."""
    longest_ms = min(_FIRST_MS * 2 ** min(attempt, 16), _LONGEST_MS)
    time.sleep(secrets.randbelow(longest_ms) / 1000)
