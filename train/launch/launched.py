"""Whether this process is a rank that a launcher has started: torchrun's, or DeepSpeed's.

Both say so in the environment, by the names of torch's `env://` rendezvous:
https://pytorch.org/docs/stable/elastic/run.html
"""

import os
from collections.abc import Mapping
from typing import NamedTuple

_NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class Launched(NamedTuple):
    """A rank's place in a world that a launcher made.

    Attributes:
        rank: Of this process, among all.
        local_rank: Among those of this machine.
        world_size: How many ranks there are.
    """

    rank: int
    local_rank: int
    world_size: int


def launched(environment: Mapping[str, str] = os.environ) -> Launched | None:
    """Returns this process's place; None: no launcher has started it.

    Raises:
        ValueError: A launcher says some of it only, or no place in its world.
    """
    given = [name for name in _NAMES if name in environment]
    if not {"RANK", "WORLD_SIZE"} & set(given):
        return None
    if missing := [name for name in _NAMES if name not in given]:
        raise ValueError(
            f"{', '.join(given)} set, and {', '.join(missing)} not, as a launcher's ranks have "
            "all of them; unset the first, or start it by torchrun"
        )
    try:
        place = Launched(*(int(environment[name]) for name in _NAMES[:3]))
    except ValueError:
        place = Launched(-1, -1, 0)
    if not 0 <= place.local_rank <= place.rank < place.world_size:
        shown = ", ".join(f"{name}={environment[name]}" for name in _NAMES[:3])
        raise ValueError(f"{shown} is no rank of a world; start it by torchrun, or unset them")
    return place
