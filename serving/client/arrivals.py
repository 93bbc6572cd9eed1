"""When the requests of an open loop are due."""

import math
import random
from collections.abc import Iterator
from enum import StrEnum


class Arrivals(StrEnum):
    """How requests follow each other."""

    # Independent of each other, as those of many users are; some come close together.
    POISSON = "poisson"
    # One as long after the other.
    CONSTANT = "constant"


def due_times_s(
    rate_hz: float, arrivals: Arrivals, *, ramp_s: float = 0.0, seed: int = 0
) -> Iterator[float]:
    """When requests are due, in seconds from the start, ascending and without end.

    A process of rate 1 is stretched by the inverse of the requests that are expected up to a time
    (Cinlar's inversion), so that a ramp keeps the kind of arrivals.

    Args:
        rate_hz: requests a second.
        arrivals: how they follow each other.
        ramp_s: over so many seconds the rate grows from 0.
        seed: of the Poisson process; the same seed, the same times.
    """
    source = random.Random(seed)  # noqa: S311  nothing is kept secret by it
    in_ramp = rate_hz * ramp_s / 2  # requests
    count = 0.0
    while True:
        count += source.expovariate(1.0) if arrivals is Arrivals.POISSON else 1.0
        if count < in_ramp:
            yield math.sqrt(2 * ramp_s * count / rate_hz)
        else:
            yield ramp_s + (count - in_ramp) / rate_hz
