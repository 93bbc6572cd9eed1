"""Where the marks of the page's plots lie: numbers for a template, which draws them as SVG."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from registry.comparison.intervals import Interval
from registry.comparison.metrics import Histogram, Measured, MetricComparison
from registry.comparison.speeds import QuantityComparison

# Of a plot, in units of its own; the page scales it to what there is.
WIDTH = 640
_LEFT, _RIGHT = 12, 628

# Of bars, behind which their values stand.
_BARS_RIGHT = 540


class Tick(NamedTuple):
    """A number on an axis."""

    at: float
    text: str


class Mark(NamedTuple):
    """A value with its interval, which is a point where it has none."""

    at: float
    low: float
    high: float


class MetricPlot(NamedTuple):
    """A metric of both, one below the other, on one axis."""

    name: str
    a: Mark
    b: Mark
    ticks: list[Tick]


class Bar(NamedTuple):
    """A bar from one place to another."""

    at: float
    size: float
    label: str
    value: float


class SpeedPlot(NamedTuple):
    """A latency of both, a pair of bars for each batch size."""

    name: str
    rows: list[tuple[int, Bar, Bar]]


class HistogramPlot(NamedTuple):
    """How many examples have which difference: bars that stand on an axis."""

    name: str
    bars: list[Bar]
    width: float
    zero: float
    ticks: list[Tick]


def metric_plots(metrics: Sequence[MetricComparison]) -> list[MetricPlot]:
    """Places every metric that both have."""
    return [_metric_plot(m.name, m.a, m.b) for m in metrics if m.a is not None and m.b is not None]


def _metric_plot(name: str, a: Measured, b: Measured) -> MetricPlot:
    ends = [_ends(found) for found in (a, b)]
    low, high = min(end.low for end in ends), max(end.high for end in ends)
    place = _Axis.around(low, high)
    marks = [
        Mark(place.at(found.value), place.at(end.low), place.at(end.high))
        for found, end in zip((a, b), ends, strict=True)
    ]
    return MetricPlot(name, marks[0], marks[1], place.ticks())


def _ends(found: Measured) -> Interval:
    return Interval(found.value, found.value) if found.interval is None else found.interval


def speed_plots(speeds: Sequence[QuantityComparison], names: Sequence[str]) -> list[SpeedPlot]:
    """Places the named quantities of calls, where both have one."""
    plots = []
    for name in names:
        found = [s for s in speeds if s.name == name and s.a is not None and s.b is not None]
        largest = max((max(s.a or 0.0, s.b or 0.0) for s in found), default=0.0)
        rows = [
            (s.batch_size or 0, _bar(s.a or 0.0, largest), _bar(s.b or 0.0, largest)) for s in found
        ]
        if rows:
            plots.append(SpeedPlot(name, rows))
    return plots


def _bar(value: float, largest: float) -> Bar:
    return Bar(_LEFT, round((_BARS_RIGHT - _LEFT) * value / largest, 2), "", value)


def histogram_plots(metrics: Sequence[MetricComparison], height: float) -> list[HistogramPlot]:
    """Places how examples differ, for each metric of real numbers."""
    return [
        _histogram_plot(m.name, m.examples, height)
        for m in metrics
        if isinstance(m.examples, Histogram)
    ]


def _histogram_plot(name: str, found: Histogram, height: float) -> HistogramPlot:
    place = _Axis(found.edges[0], found.edges[-1])
    most = max(found.counts)
    bars = [
        Bar(place.at(low), round(height * count / most, 2), f"{low:.3g} to {high:.3g}", count)
        for low, high, count in zip(found.edges, found.edges[1:], found.counts, strict=False)
    ]
    width = round((_RIGHT - _LEFT) / len(found.counts), 2)
    return HistogramPlot(name, bars, width, place.at(0.0), place.ticks())


class _Axis(NamedTuple):
    """From one number, at the left end, to another."""

    low: float
    high: float

    @classmethod
    def around(cls, low: float, high: float) -> "_Axis":
        """An axis with some room to either side, also where both numbers are one."""
        room = 0.08 * (high - low) or 0.05 * abs(low) or 1.0
        return cls(low - room, high + room)

    def at(self, value: float) -> float:
        """Returns where a number lies."""
        share = (value - self.low) / (self.high - self.low)
        return round(_LEFT + (_RIGHT - _LEFT) * min(max(share, 0.0), 1.0), 2)

    def ticks(self) -> list[Tick]:
        """Returns some three to six round numbers."""
        span = self.high - self.low
        step = 10.0 ** math.floor(math.log10(span))
        for factor in (0.2, 0.5, 1.0, 2.0):
            if span / (step * factor) <= 5:
                step *= factor
                break
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        values = [step * i for i in range(first, last + 1)]
        return [Tick(self.at(value), f"{value:.6g}") for value in values]
