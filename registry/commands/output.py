"""What a command prints: JSON for programs, or what rich can draw for people."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from base.output import Output
from base.program import EXIT_FAILED, end_with_error
from base.text import printable

_WHOLE_LINE = 10_000  # columns; more than any line has


def emit(facts: Any, drawn: RenderableType, as_json: bool) -> None:
    """Prints the result of a command.

    Args:
        facts: What JSON can hold.
        drawn: The same for people.
        as_json: Which of the two is printed.
    """
    output = Output()
    if as_json:
        output.write(f"{json.dumps(facts, indent=2, sort_keys=True)}\n")
    else:
        # A pipe gets lines whole; on a terminal a table's cells are folded, and text is where it
        # ends.
        width = None if output.isatty() else _WHOLE_LINE
        console = Console(file=output, highlight=False, width=width)
        console.print(drawn, soft_wrap=isinstance(drawn, Text))
    output.flush()
    # Who reads a pipe may stop; but half of a result on a full disk is none.
    if output.lost is not None and not isinstance(output.lost, BrokenPipeError):
        end_with_error(f"the result cannot be written: {output.lost.strerror}", EXIT_FAILED)


def as_facts(message: Message) -> dict[str, Any]:
    """Returns a message as JSON has it, with the names of its fields as the schema spells them."""
    facts: dict[str, Any] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return facts


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Returns a plain table; cells may hold text of others."""
    drawn = Table(box=None, pad_edge=False, header_style="bold cyan")
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(printable(cell)) for cell in row))
    return drawn
