"""Line plots in a grid, as PNG, without a display."""

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

_PANEL_INCHES = (4.2, 3.2)
_DOTS_PER_INCH = 110


class Panel(NamedTuple):
    """One plot with logarithmic axes.

    Attributes:
      title: above the plot.
      lines: points (x, y) by the name of the line. A name has one colour in all panels.
      level: a horizontal line that means something, such as 1 for a ratio.
    """

    title: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    level: float | None = None


def png(panels: Sequence[Panel], *, title: str, x_label: str, y_label: str, columns: int) -> bytes:
    """Draws the panels, row by row, over one legend.

    Raises:
      ValueError: there is nothing to draw.
    """
    if not panels:
        raise ValueError("there is no panel to draw")
    rows = math.ceil(len(panels) / columns)
    width, height = _PANEL_INCHES
    figure = Figure(figsize=(width * columns, height * rows + 1), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    handles = {}
    for axes, panel in zip(grid.flat, panels, strict=False):
        for name, points in panel.lines.items():
            xs, ys = zip(*points, strict=True) if points else ((), ())
            (handles[name],) = axes.plot(xs, ys, marker="o", ms=3, color=f"C{names.index(name)}")
        if panel.level is not None:
            axes.axhline(panel.level, color="black", linewidth=0.8)
        axes.set_title(panel.title, fontsize=9)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_visible(False)
    for axes in grid[-1]:
        axes.set_xlabel(x_label, fontsize=9)
    figure.supylabel(y_label, fontsize=9)
    figure.suptitle(title, fontsize=10)
    figure.legend(
        [handles[name] for name in names],
        names,
        loc="outside lower center",
        ncols=min(len(names), 6, 2 * columns),
        fontsize=8,
    )
    return figure_png(figure)


def figure_png(figure: Figure) -> bytes:
    """Returns a figure as a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DOTS_PER_INCH)
    return buffer.getvalue()


def panels(
    points: Iterable[tuple[str, str, float, float]], level: float | None = None
) -> list[Panel]:
    """Returns what to draw, in the order of the points.

    Args:
      points: Of each the title of the panel, the name of the line, x and y.
      level: Of every panel.
    """
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for title, line, x, y in points:
        found.setdefault(title, {}).setdefault(line, []).append((x, y))
    return [Panel(title, lines, level) for title, lines in found.items()]
