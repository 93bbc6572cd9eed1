"""The optimizers of the bake-off, as they start and as they are tuned."""

from collections.abc import Mapping

from benchmarks.bakeoff.cases import EIGHT_BITS
from benchmarks.bakeoff.search import Point
from benchmarks.tasks.tasks import digits_preset
from optim.algorithm import Algorithm


def first_guess(name: str) -> Algorithm:
    """Returns an optimizer's settings in the digits' preset."""
    settings: Algorithm = getattr(digits_preset().optimizer, name)
    return settings


def at_point(settings: Algorithm, point: Point, state_bits: int = 32) -> Algorithm:
    """Returns settings with another rate and decay, and with state in so many bits."""
    return settings.model_copy(update={**point._asdict(), "state_bits": state_bits})


def tuned(points: Mapping[str, Point]) -> dict[str, Algorithm]:
    """Returns every optimizer at its best point: in 32 bits, then in 8, by the side's name."""
    return {
        name + suffix: at_point(first_guess(name), point, bits)
        for bits, suffix in ((32, ""), (8, EIGHT_BITS))
        for name, point in points.items()
    }
