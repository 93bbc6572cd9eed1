"""openapi.json says what the server does: another project's tester finds nothing that differs."""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serving.protocols.over_http.routes import ROUTES
from serving.protocols.over_http.schemas import SCHEMAS
from serving.protocols.over_http.testing.running import Running, running
from serving.testing.example import GREY_8X8
from serving.testing.local_replica import mean_of_each_row
from serving.testing.served_models import DIGITS

SEED = 18
EXAMPLES = 25  # of each page and phase; with them about 700 requests are made
PATIENCE_S = 240

# All checks are on, but for two that would be wrong here.
# - A request that fits the schema is to be accepted: not of inference, where tensors must fit the
#   model as well, and an image must be one.
# - 504 is a server's error: not where the client gives it one millisecond.
CONFIGURATION = """
[parameters]
"path.model" = "digits"
"path.version" = "1.2.3"

[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "504"]

[[operations]]
include-path-regex = "/predict$|/infer$"
checks.positive_data_acceptance.enabled = false
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """Of a model that takes images, too."""
    with running((replace(DIGITS, image_preprocessing=GREY_8X8), mean_of_each_row)) as here:
        yield here


@pytest.fixture(scope="module")
def document(server: Running) -> Any:
    return server.ask("GET", "/openapi.json").json


def test_every_page_is_in_the_document_and_no_other(document: Any) -> None:
    documented = {
        (method.upper(), path)
        for path, operations in document["paths"].items()
        for method in operations
    }
    assert documented == {(route.method, route.path) for route in ROUTES}
    names = [one["operationId"] for path in document["paths"].values() for one in path.values()]
    assert len(set(names)) == len(names) == len(ROUTES)


def test_every_schema_is_used_and_there(document: Any) -> None:
    used = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(document["paths"])))
    assert used == set(SCHEMAS) == set(document["components"]["schemas"])


def test_a_tester_that_is_not_ours_finds_nothing(server: Running, tmp_path: Path) -> None:
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    program, *arguments = shlex.split(os.environ["SCHEMATHESIS_DRIVER"])
    result = subprocess.run(
        [
            Path(program).absolute(),
            *arguments,
            "run",
            f"http://{server.host}:{server.port}/openapi.json",
            f"--seed={SEED}",
            f"--max-examples={EXAMPLES}",
            "--warnings=off",
            "--no-color",
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        cwd=tmp_path,
        env=environment | {"HOME": str(tmp_path)},
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    tested = len(ROUTES) - 1  # it does not ask for the document again
    assert f"Tested: {tested}" in result.stdout
    (cases,) = re.findall(r"(\d+) generated", result.stdout)
    assert int(cases) > len(ROUTES) * EXAMPLES
