"""The page and the table show the numbers of the JSON, and whatever names hold is text on them."""

import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from base.text import printable
from registry.comparison.comparison import Comparison, as_json, compare
from registry.comparison.example import example_sides
from registry.comparison.page import as_page
from registry.comparison.table import as_table

_HOSTILE = "<script>alert(1)</script>\"'&{{ 7 * 7 }}[bold]\x1b[31m\u202e"

_VOID = frozenset(["meta", "link", "br", "img", "input", "hr"])


class _Page(HTMLParser):
    """What a browser would see: tags, that each is closed, numbers with their keys, and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.numbers: dict[str, float] = {}
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in _VOID:
            self._open.append(tag)
        given = dict(attrs)
        if tag == "data":
            key, value = given["data-key"], given["value"]
            assert key is not None
            assert value is not None
            assert key not in self.numbers
            self.numbers[key] = float(value)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    return compare(*example_sides(tmp_path))


def _numbers(found: dict[str, Any]) -> dict[str, float]:
    """Every number of the JSON that the page shows, by its key there."""
    numbers: dict[str, float | None] = {}
    for metric in found["metrics"]:
        key = f"metrics.{metric['name']}"
        for side in ("a", "b"):
            numbers[f"{key}.{side}.value"] = metric[side] and metric[side]["value"]
        numbers[f"{key}.difference"] = metric["difference"]
        numbers[f"{key}.test.p_value"] = metric["test"] and metric["test"]["p_value"]
        if metric["examples"] and metric["examples"]["kind"] == "pairs":
            for name in ("both", "only_a", "only_b", "neither"):
                numbers[f"{key}.examples.{name}"] = metric["examples"][name]
    for speed in found["speeds"]:
        key = f"speeds.{speed['name']}.{speed['batch_size'] or ''}"
        numbers |= {f"{key}.{name}": speed[name] for name in ("a", "b", "ratio")}
    return {printable(key): value for key, value in numbers.items() if value is not None}


def test_numbers_are_those_of_the_json(comparison: Comparison) -> None:
    expected = _numbers(as_json(comparison))
    assert len(expected) > 40
    assert _Page(as_page(comparison)).numbers == expected


def test_it_asks_for_nothing_else(comparison: Comparison) -> None:
    text = as_page(comparison)
    page = _Page(text)
    assert not page.tags & {"script", "link", "img", "iframe", "object", "form", "a"}
    names = {name for name, _ in page.attributes}
    assert not names & {"src", "href", "srcset", "action", "background", "xlink:href"}
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text
    assert not re.search(r"(?:https?:)?//", text.replace("</", ""))


def test_it_is_drawn(comparison: Comparison) -> None:
    text = as_page(comparison)
    # Three metrics, one histogram, two latencies.
    assert text.count("<svg ") == 6
    assert text.count("<circle ") == 2 * 3
    assert not re.search(r'="(?:nan|inf|-inf|None)"', text)


def _hostile(tmp_path: Path) -> Comparison:
    a, b = example_sides(tmp_path, label_a=_HOSTILE, label_b="b")
    assert a.evaluation is not None
    for text in ("host", "git_commit"):
        setattr(a.artifact.training_run, text, _HOSTILE)
    a.artifact.training_run.library_versions[_HOSTILE] = _HOSTILE
    a.artifact.metrics[_HOSTILE] = 0.5
    a.artifact.name = a.artifact.model.architecture = a.artifact.inputs[0].name = _HOSTILE
    a.artifact.inputs[0].datatype = _HOSTILE
    a.evaluation.evaluation.host = a.evaluation.evaluation.data.source = _HOSTILE
    a.evaluation.evaluation.metrics[_HOSTILE] = 0.5
    a = replace(a, config={_HOSTILE: {_HOSTILE: _HOSTILE}})
    return compare(a, b)


def test_names_are_text(tmp_path: Path) -> None:
    comparison = _hostile(tmp_path)
    text = as_page(comparison)
    page = _Page(text)
    assert "script" not in page.tags
    assert not {name for name, _ in page.attributes if name.startswith("on")}
    assert "<script>alert(1)</script>" in page.text
    assert "{{ 7 * 7 }}" in page.text
    # Neither a terminal's commands nor what turns the direction of text.
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert page.numbers == _numbers(as_json(comparison))


def test_the_table_shows_numbers_and_names_as_text(tmp_path: Path) -> None:
    output = io.StringIO()
    Console(file=output, width=400, force_terminal=True, color_system=None).print(
        as_table(_hostile(tmp_path))
    )
    text = output.getvalue()
    assert "\x1b[31m" not in text
    assert "\u202e" not in text
    assert "[bold]" in text
    assert "p = " in text
    assert "1.5x" in text
    assert "a new major version" in text


def test_of_one_that_was_measured_and_one_that_was_not(tmp_path: Path) -> None:
    a, b = example_sides(tmp_path)
    comparison = compare(a, replace(b, evaluation=None))
    text = as_page(comparison)
    assert _Page(text).numbers == _numbers(as_json(comparison))
    assert "digits@candidate has no evaluation" in text
    output = io.StringIO()
    Console(file=output, width=200).print(as_table(comparison))
    assert "digits@candidate has no evaluation" in output.getvalue()


def test_the_table_without_evaluations(tmp_path: Path) -> None:
    a, b = (replace(s, evaluation=None, config=None) for s in example_sides(tmp_path))
    output = io.StringIO()
    Console(file=output, width=200).print(as_table(compare(a, b)))
    text = output.getvalue()
    assert "note: " in text
    assert "not stored with both" in text
    page = _Page(as_page(compare(a, b)))
    assert "Speed and memory" not in page.text
    assert "Not stored with both." in page.text
