"""Shows what the benchmark of the training loop measured: tables, aims and Markdown."""

from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure

from benchmarks.harness.plot import figure_png
from benchmarks.harness.record import Finding, Record, Row, at_most
from benchmarks.harness.suite import Report
from benchmarks.harness.text import (
    fenced,
    fenced_tables,
    finding_lines,
    ran_with_settings,
    table_lines,
)
from benchmarks.networks.findings import groups
from benchmarks.training.cases import DATA_TABLE, DETERMINISTIC, LOOP, MAKING, PLAIN, SAVING

HOW_TO_READ = """\
Our loop as `//train:flax` and `//train:torch` run it, with the data's pipeline, reports and all
callbacks that are on by default, and two plain loops of the same network. Batches of the one lie
ready in memory; the other makes each before its step, by the same code. The three take chunks of
steps in turns, in one process: `ms` a step is the median over chunks, then the quartiles. Then ours
alone: of one network as `run.deterministic` has it; and saved now and then: what the chunks from a
checkpoint's copy to its end on the disk take longer than others is what it costs; `every 1000`,
that beside the 1,000 steps that lie between two by default. Last, every preset: `data` is what the
host waits for batches in a step, and `lost` the share of a step that this can have taken, as a
device may be at work meanwhile."""

_PLOT_SHOWS = "A step of our loop over one of plain loops, and the aim"
_BAR = 0.4  # thickness, of the distance between networks

# Of a step of a plain loop; of a step; of a step.
_STEP_AIM, _SAVE_AIM, _DATA_AIM = 1.03, 0.05, 0.05


def findings(record: Record) -> Iterator[Finding]:
    """Yields the aims: a step as long as a plain one, saves and data that cost next to nothing."""
    for group in groups(record.rows):
        name = f"{group[LOOP].case['network']}, {group[LOOP].case['framework']}"
        for side in (PLAIN, MAKING):
            ratio = _ratio(group, LOOP, side)
            yield at_most(f"{name}: a step, {LOOP} / {side}", ratio, 2, _STEP_AIM)
        if DETERMINISTIC in group:
            ratio = _ratio(group, DETERMINISTIC, LOOP)
            yield Finding(name=f"{name}: a step, deterministic / as it is", value=ratio, cases=2)
        share = group[SAVING].metrics["share_by_default"]
        yield at_most(f"{name}: saves, by default / steps", share, 1, _SAVE_AIM)
    for row in (row for row in record.rows if row.table == DATA_TABLE):
        name = f"{row.case['preset']}, {row.case['framework']}: waiting for data / a step"
        yield at_most(name, row.metrics["lost_share"], 1, _DATA_AIM)


def step_table(rows: Sequence[Row]) -> Iterator[str]:
    """Yields the table of one network in one framework."""
    yield f"{rows[0].case['network']} in {rows[0].case['framework']}"
    [group] = groups(rows)
    cells = [
        (
            side,
            f"{row.timing.median_ms:.2f}",
            f"{row.timing.low_ms:.2f} to {row.timing.high_ms:.2f}",
            *(
                f"{_ratio(group, LOOP, other):.3f}" if side == LOOP else ""
                for other in (PLAIN, MAKING)
            ),
            *(
                f"{row.metrics[name]:{form}}" if name in row.metrics else ""
                for name, form in (
                    ("save_ms", ".1f"),
                    ("share_by_default", ".2%"),
                    ("share_of_short_interval", ".1%"),
                )
            ),
        )
        for side, row in group.items()
        if row.timing is not None
    ]
    titles = ("", "ms", "quartiles", "/ plain", "/ making", "a save, ms", "every 1000", "every 100")
    yield from table_lines(titles, cells)


def data_table(rows: Sequence[Row]) -> Iterator[str]:
    """Yields the table of what steps wait for data."""
    cells = [
        (
            f"{row.case['preset']} in {row.case['framework']}",
            f"{row.metrics['step_ms']:.2f}",
            f"{row.metrics['data_ms']:.3f}",
            f"{row.metrics['lost_share']:.2%}",
        )
        for row in rows
    ]
    yield from table_lines(("", "step, ms", "data, ms", "lost"), cells)


def _plot(record: Record) -> bytes:
    """Two bars for each network and framework: a step of ours over those of the plain loops."""
    found = groups(record.rows)
    figure = Figure(figsize=(7, 0.4 * len(found) + 1.2), layout="constrained")
    axes = figure.subplots()
    names = [f"{group[LOOP].case['network']}, {group[LOOP].case['framework']}" for group in found]
    for place, side in enumerate((PLAIN, MAKING)):
        heights = [number + (place - 0.5) * _BAR for number in range(len(found))]
        ratios = [_ratio(group, LOOP, side) for group in found]
        axes.barh(heights, ratios, height=_BAR, label=f"/ {side}")
    axes.set_yticks(range(len(found)), names)
    axes.axvline(_STEP_AIM, color="black", linewidth=0.8)
    axes.invert_yaxis()
    axes.legend(fontsize=8)
    axes.set_title(_PLOT_SHOWS, fontsize=10)
    return figure_png(figure)


def _ratio(group: dict[str, Row], side: str, other: str) -> float:
    timing, others = group[side].timing, group[other].timing
    assert timing is not None
    assert others is not None
    return timing.median_ms / others.median_ms


def _sections(record: Record) -> list[str]:
    data = [row for row in record.rows if row.table == DATA_TABLE]
    return [
        "## Findings",
        fenced(finding_lines(record.findings)),
        "## Steps",
        HOW_TO_READ,
        fenced_tables(step_table([*group.values()]) for group in groups(record.rows)),
        "## Waiting for data",
        fenced_tables([data_table(data)]),
    ]


REPORT = Report(
    findings=findings,
    plot=_plot,
    plot_shows=_PLOT_SHOWS,
    sections=_sections,
    introduction=lambda record: [ran_with_settings(record)],
)
