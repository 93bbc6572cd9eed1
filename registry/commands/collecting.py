"""`gc`: what interrupted publishers left behind."""

from datetime import timedelta
from typing import Annotated

import typer
from rich.console import Group
from rich.text import Text

from registry.access import open_registry
from registry.commands.options import AsJson, RegistryUrl
from registry.commands.output import emit, table

MAX_HOURS = 24 * 365 * 100


def collect(
    older_than_hours: Annotated[
        float,
        typer.Option(
            "--older-than-hours",
            min=0,
            max=MAX_HOURS,
            help="Leave what is younger: its publisher may be at work.",
        ),
    ] = 24,
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove it; without, it is only shown.")
    ] = False,
    registry: RegistryUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show what interrupted publishers have left in a registry and, with --yes, remove it."""
    store = open_registry(registry)
    garbage = store.garbage(timedelta(hours=older_than_hours))
    # What somebody has come to need meanwhile stays.
    if yes:
        garbage = [piece for piece in garbage if store.remove(piece)]
    facts = {
        "removed": yes,
        "garbage": [
            {
                "path": item.stored.key,
                "why": item.reason,
                "size_bytes": item.stored.size_bytes,
                "modified_at": item.stored.modified.isoformat(),
            }
            for item in garbage
        ],
    }
    if not garbage:
        emit(facts, Text("there is nothing to remove"), as_json)
        return
    rows = [
        [
            item.stored.key,
            item.reason,
            f"{item.stored.size_bytes:,}",
            f"{item.stored.modified:%Y-%m-%d %H:%M}",
        ]
        for item in garbage
    ]
    total = sum(item.stored.size_bytes for item in garbage)
    end = "removed" if yes else "would be removed; --yes removes it"
    told = Text(f"{len(garbage)} left over, {total:,} bytes: {end}")
    emit(facts, Group(table(["path", "why", "bytes", "modified"], rows), told), as_json)
