"""The section that says what is written down, and how."""

from typing import Literal

from pydantic import Field

from base.config import Section

_DAY_MS = 24 * 3600 * 1000


class LogConfig(Section):
    """What the gateway writes to stderr: one line a request, and one for each event of its own."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="Lines below it are not written; requests that were answered, or were wrong, "
        "are info, what the gateway could not do is a warning, its own faults are errors",
    )
    format: Literal["auto", "json", "console"] = Field(
        default="auto",
        description="How lines look; auto: for people if stderr is a terminal, otherwise as json",
    )
    success_rate: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Share of answered requests that have a line; those that failed, or were slow, "
        "all have one",
    )
    slow_ms: float = Field(
        default=1000.0, ge=0, le=_DAY_MS, description="An answer that took so long was slow"
    )
    max_waiting_lines: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="Lines that may wait to be written; beyond that they are lost, and counted in "
        "gateway_log_lines_lost_total",
    )
