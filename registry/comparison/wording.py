"""How numbers and differences read, alike in the table and on the page."""

from typing import Any

from base.text import printable
from registry.comparison.intervals import Interval
from registry.comparison.metrics import Measured, MetricComparison
from registry.comparison.paired_tests import MCNEMAR, SWAPS, SWAPS_NORMAL
from registry.comparison.speeds import QuantityComparison

# What stands where nothing was measured.
NOTHING = "-"

_SHORT = {MCNEMAR: "McNemar", SWAPS: "permutation", SWAPS_NORMAL: "permutation, normal limit"}

# Where more of it is better; of all else less is.
_MORE_IS_BETTER = frozenset(["examples_per_s"])

# Numbers in between are written with commas: 123,457 rather than 1.2346e+05.
_LARGE = (1e5, 1e12)

# What is shown of a value of a configuration.
_MAX_SHOWN = 80


def number(value: float | None) -> str:
    """Returns a number with as many digits as anybody compares."""
    if value is None:
        return NOTHING
    is_large = _LARGE[0] <= abs(value) < _LARGE[1]
    return f"{value:,.0f}" if isinstance(value, int) or is_large else f"{value:.5g}"


def signed(value: float | None) -> str:
    """Returns a difference, with its sign."""
    return NOTHING if value is None else f"{value:+.4g}"


def interval(found: Interval | None) -> str:
    """Returns the interval of a metric."""
    return "" if found is None else f"[{found.low:.4g}, {found.high:.4g}]"


def signed_interval(found: Interval | None) -> str:
    """Returns the interval of a difference."""
    return "" if found is None else f"[{found.low:+.4g}, {found.high:+.4g}]"


def measured(found: Measured | None) -> str:
    """Returns a metric with its interval."""
    if found is None:
        return NOTHING
    return f"{number(found.value)} {interval(found.interval)}".rstrip()


def test(found: MetricComparison) -> str:
    """Returns what the paired test says."""
    if found.test is None:
        return NOTHING
    return f"p = {found.test.p_value:.3g} ({_SHORT[found.test.method]})"


def ratio(found: QuantityComparison) -> str:
    """Returns how many times one is the other."""
    return NOTHING if found.ratio is None else f"{found.ratio:.3g}x"


def is_better(found: QuantityComparison) -> bool | None:
    """Returns whether `b` is better than `a`; None: neither is, as far as is shown."""
    if found.ratio is None or ratio(found) == "1x":
        return None
    return (found.ratio > 1) == (found.name in _MORE_IS_BETTER)


def quantity(found: QuantityComparison) -> str:
    """Returns what a quantity is called."""
    return found.name if found.batch_size is None else f"{found.name}, batch {found.batch_size}"


def value(found: Any) -> str:
    """Returns a value of a configuration in one line."""
    text = NOTHING if found is None else printable(str(found))
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."
