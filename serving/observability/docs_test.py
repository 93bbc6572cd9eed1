"""The page is what the gateway really says."""

import asyncio
import json
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.observability.docs import MARK, PAGE, page
from serving.observability.log_config import LogConfig
from serving.observability.log_lines import render_json
from serving.observability.metrics import Metrics
from serving.observability.predictions import MAX_VALUES
from serving.observability.readings import (
    CacheReading,
    ModelReading,
    RedisReading,
    ServerReading,
)
from serving.observability.request_log import RequestLog
from serving.observability.testing.outcomes import model, outcome

WRITTEN = PAGE.read_text()


class Kept(list[object]):
    """The lines that would be written."""

    def put(self, entry: object) -> None:
        self.append(entry)


def scraped() -> dict[str, tuple[str, set[str]]]:
    """Kind and labels of every metric on a page of a gateway that has all of them."""
    metrics = Metrics({"version": "1"})
    metrics.add_model(model(), lambda: ModelReading(True, 1, 1, 0, 0, "closed", 0, 8))
    metrics.watch_server(lambda: ServerReading(0, 0, False))
    metrics.watch_cache(lambda: CacheReading(0, 0, 0, 0, 0, 0))
    metrics.watch_redis(lambda: RedisReading(0, 0, 0, 0, 0))
    metrics.event("model_ready")
    metrics.done(outcome(model()))
    text = asyncio.run(metrics.page())[0].decode()
    found = {}
    for family in text_string_to_metric_families(text):
        name = family.name + "_total" * (family.type == "counter")
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[name] = (family.type, labels)
    return found


def test_the_page_is_up_to_date() -> None:
    assert page(WRITTEN) == WRITTEN, "run ./bazelw run //serving/observability:docs"


def test_the_tables_have_what_is_scraped_and_nothing_else() -> None:
    rows = re.findall(r"^\| `(gateway_\w+)` \| (\w+) \| (.*?) \| \S.* \|$", WRITTEN, re.MULTILINE)
    documented = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    own = {name: facts for name, facts in scraped().items() if name.startswith("gateway_")}
    # A series of sheds is made by the first of them.
    own["gateway_shed_total"] = documented["gateway_shed_total"]
    assert own.pop("gateway_build_info")
    assert documented == own


def test_whatever_the_page_names_there_is() -> None:
    known = scraped().keys()
    above = WRITTEN.partition(MARK)[0]
    for name in re.findall(r"\b(?:gateway|process)_\w+[a-z]\b", above):
        family = re.sub(r"_(bucket|sum|count)$", "", name)
        assert family in known or name in known, name
    assert f"{MAX_VALUES:,} logits" in above


def test_the_line_of_the_page_has_the_keys_of_a_real_one() -> None:
    example = json.loads(WRITTEN.partition("```json\n")[2].partition("\n```")[0])
    kept = Kept()
    RequestLog(kept, LogConfig()).done(outcome(model()))
    line = json.loads(render_json(kept[0]))
    assert [*example] == [*line]
    assert [*map(type, example.values())] == [*map(type, line.values())]


@pytest.mark.parametrize("written", ["", MARK * 2])
def test_a_page_has_one_mark(written: str) -> None:
    with pytest.raises(ValueError, match="expected one line"):
        page(written)
