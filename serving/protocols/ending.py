"""What every protocol does at its end: it says no for as long as somebody asks, up to a second.

A caller that is told so goes elsewhere, while one whose connection ends knows less.
"""

import asyncio
from collections.abc import Callable

_QUIET_S = 0.02
_LONGEST_S = 1.0


async def quiet(arrived: Callable[[], int]) -> None:
    """Returns once nobody has come for a moment, or a second has passed.

    Args:
        arrived: How many have come until now.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + _LONGEST_S
    before = None
    while before != arrived() and loop.time() < until:
        before = arrived()
        await asyncio.sleep(_QUIET_S)
