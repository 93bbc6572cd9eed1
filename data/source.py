"""The data sources by name: a new one is a file in `sources/` and a line here."""

from typing import Any

from data.dataset import Source
from data.sources.digits import DIGITS
from data.sources.mixture import MIXTURE
from data.sources.mnist10k import MNIST10K
from data.sources.recall import RECALL
from data.sources.stdlib_text import STDLIB_TEXT
from data.sources.waves import WAVES

_ALL: tuple[Source[Any], ...] = (DIGITS, MIXTURE, MNIST10K, RECALL, STDLIB_TEXT, WAVES)

SOURCES: dict[str, Source[Any]] = {source.name: source for source in _ALL}
