"""The data sources by name: a new one is a file in `sources/` and a line here."""

from typing import Any

from data.dataset import Source
from data.sources.digits import DIGITS

SOURCES: dict[str, Source[Any]] = {source.name: source for source in (DIGITS,)}
