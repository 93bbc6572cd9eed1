"""The data sources by name: a new one is a file in `sources/` and a line here."""

from typing import Any

from data.dataset import Source
from data.sources.digits import DIGITS
from data.sources.mnist10k import MNIST10K
from data.sources.stdlib_text import STDLIB_TEXT

SOURCES: dict[str, Source[Any]] = {
    source.name: source for source in (DIGITS, MNIST10K, STDLIB_TEXT)
}
