"""A comparison as tables on a terminal."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from base.text import printable
from registry.comparison import wording
from registry.comparison.changes import Change
from registry.comparison.comparison import Comparison, SideFacts
from registry.comparison.metrics import MetricComparison
from registry.comparison.speeds import QuantityComparison

_STYLES = {"better": "green", "worse": "red"}


def as_table(comparison: Comparison) -> RenderableType:
    """Returns the whole comparison for `rich.console.Console.print`."""
    parts: list[RenderableType] = [_sides(comparison.a, comparison.b)]
    parts += [Text(f"note: {printable(note)}", style="yellow") for note in comparison.notes]
    parts.append(_metrics(comparison))
    if comparison.speeds:
        parts.append(_speeds(comparison))
    if comparison.needs_new_major:
        text = "inputs or outputs differ: clients of one break with the other, a new major version"
        parts.append(Text(text, style="red"))
    parts += _changes("signature", comparison.signature, comparison)
    parts += _changes("network", comparison.model, comparison)
    if comparison.config is None:
        parts.append(Text("training configurations are not stored with both", style="dim"))
    else:
        parts += _changes("training configuration", comparison.config, comparison)
    parts += _changes("surroundings", comparison.surroundings, comparison)
    return Group(*parts)


def _sides(a: SideFacts, b: SideFacts) -> Table:
    table = _table("", a.label, b.label, title="")
    _add(table, "artifact", *(printable(f"{side.name} {side.version}") for side in (a, b)))
    _add(table, "digest", *(side.digest[:16] for side in (a, b)))
    _add(table, "network", *(printable(side.architecture) for side in (a, b)))
    for key in ("source", "num_examples", "program", "host", "measured_at"):
        values = [getattr(side.measured, key, wording.NOTHING) for side in (a, b)]
        _add(table, key, *(printable(str(value)) for value in values))
    return table


def _metrics(comparison: Comparison) -> Table:
    a, b = comparison.a.label, comparison.b.label
    table = _table("metric", a, b, "difference", "test", "verdict", title="metrics, 95% intervals")
    for found in comparison.metrics:
        _add(table, *_metric_row(found))
    return table


def _metric_row(found: MetricComparison) -> list[str | Text]:
    difference = f"{wording.signed(found.difference)} {wording.signed_interval(found.interval)}"
    verdict = found.verdict or wording.NOTHING
    return [
        printable(found.name),
        wording.measured(found.a),
        wording.measured(found.b),
        difference.rstrip(),
        wording.test(found),
        Text(verdict, style=_STYLES.get(verdict, "")),
    ]


def _speeds(comparison: Comparison) -> Table:
    a, b = comparison.a.label, comparison.b.label
    table = _table("quantity", a, b, "ratio", title="speed and memory")
    for found in comparison.speeds:
        _add(table, *_speed_row(found))
    return table


def _speed_row(found: QuantityComparison) -> list[str | Text]:
    better = wording.is_better(found)
    style = "" if better is None else _STYLES["better" if better else "worse"]
    return [
        wording.quantity(found),
        wording.number(found.a),
        wording.number(found.b),
        Text(wording.ratio(found), style=style),
    ]


def _changes(title: str, found: Sequence[Change], comparison: Comparison) -> list[RenderableType]:
    if not found:
        return [Text(f"{title}: no difference", style="dim")]
    table = _table("key", comparison.a.label, comparison.b.label, title=title)
    for change in found:
        _add(table, printable(change.path), wording.value(change.a), wording.value(change.b))
    return [table]


def _add(table: Table, *cells: str | Text) -> None:
    """Adds a row; a string is shown as it is, and no markup."""
    table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells))


def _table(*columns: str, title: str) -> Table:
    """Returns an empty table."""
    table = Table(title=title or None, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(Text(printable(column)), overflow="fold")
    return table
