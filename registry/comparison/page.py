"""A comparison as one HTML file that asks for nothing else: no script, no font, no picture."""

from pathlib import Path

import jinja2
from markupsafe import Markup

from base.text import printable
from registry.comparison import wording
from registry.comparison.comparison import Comparison
from registry.comparison.metrics import Pairs
from registry.comparison.plots import WIDTH, histogram_plots, metric_plots, speed_plots

_TEMPLATE = Path(__file__).parent / "page.html"

# What is drawn; the table has all.
_DRAWN_SPEEDS = ("latency_p50_ms", "latency_p99_ms")
_HISTOGRAM_HEIGHT = 104

_FACTS = (
    ("source", "examples of"),
    ("num_examples", "number of examples"),
    ("program", "program"),
    ("host", "machine"),
    ("measured_at", "measured"),
)


def as_page(comparison: Comparison) -> str:
    """Returns the page. Whatever names and values hold, it is text on it.

    Each number stands in `<data value="...">` with all of its digits, and with `data-key`, where it
    is in the JSON.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, finalize=_printable
    )
    environment.filters["exact"] = repr
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    metrics = comparison.metrics
    return template.render(
        **{name: getattr(comparison, name) for name in comparison.__dataclass_fields__},
        words=wording,
        facts=_FACTS,
        width=WIDTH,
        metric_plots=metric_plots(metrics),
        histogram_plots=histogram_plots(metrics, _HISTOGRAM_HEIGHT),
        speed_plots=speed_plots(comparison.speeds, _DRAWN_SPEEDS),
        paired=[metric for metric in metrics if isinstance(metric.examples, Pairs)],
        differences=[
            ("Network", comparison.model),
            ("Training configuration", comparison.config),
            ("Surroundings", comparison.surroundings),
        ],
    )


def _printable(value: object) -> object:
    """What is shown of a value: of a text no command and nothing that turns its direction."""
    is_text = isinstance(value, str) and not isinstance(value, Markup)
    return printable(str(value)) if is_text else value
