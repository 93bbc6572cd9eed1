"""The pages on serving are what the programs do: options, statuses, limits, and every command.

One gateway is started by the very line of the page, and asked in each way that a page shows.
"""

import functools
import json
import math
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main
from PIL import Image

from registry.store.store import open_store
from serving.client.commands.app import make_app
from serving.configuration.command import config_of
from serving.protocols.over_http.config import HttpConfig
from serving.protocols.over_http.routes import ROUTES
from serving.protocols.statuses import STATUSES
from serving.testing.example import GREY_8X8, example_images, publish_example
from serving.testing.gateway_process import Gateway, running
from serving.testing.pages import Block, blocks, commands, prose, rows

SERVING, HTTP, OBSERVABILITY, CONFIGURATION = (
    Path(f"docs/{name}.md").read_text()
    for name in ("serving", "http", "observability", "serving_configuration")
)
PAGES = {"serving": SERVING, "http": HTTP, "observability": OBSERVABILITY}
UP = "./bazelw run //serving:up -- "
CLIENT = "./bazelw run //serving:client -- "
QUICKSTART = "/tmp/quickstart"

# The pages of the port for those who run the gateway.
ADMIN = {"metrics", "livez", "readyz"}

# Of load. What is measured is not looked at here.
BRIEF = "--duration-s 0.1 --warm-up-s 0"


def commands_of(page: str, program: str) -> list[str]:
    """What the page gives a program, each as it would be typed."""
    lines = [command for block in blocks(page) for command in commands(block)]
    return [line.removeprefix(program) for line in lines if line.startswith(program)]


@functools.cache
def up_options() -> set[str]:
    """The options of the gateway, from its help."""
    ended = subprocess.run(
        [sys.executable, "-m", "serving.up", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"COLUMNS": "200"},
    )
    return set(re.findall(r"^  (?:-h, )?(--[a-z][a-z0-9.-]*)", ended.stdout, re.MULTILINE)) | set(
        re.findall(r", (--no-[a-z0-9.-]+)", ended.stdout)
    )


def client_options() -> set[str]:
    group: Any = typer.main.get_command(make_app())
    parameters = [one for command in group.commands.values() for one in command.params]
    return {option for parameter in parameters for option in parameter.opts}


def test_options_that_pages_name_there_are() -> None:
    known = up_options() | client_options()
    assert {"--model", "--config", "--queue.max-requests", "--no-cache.enabled"} <= known
    for name, page in {**PAGES, "configuration": CONFIGURATION}.items():
        named = set(re.findall(r"(?<=[`( ])--[a-z][a-z0-9.-]*[a-z0-9]", prose(page)))
        assert named - known == set(), name


def test_every_option_of_the_gateway_is_documented() -> None:
    keys = re.findall(r"^\| `([a-z0-9_.]+)` \|", CONFIGURATION, re.MULTILINE)
    documented = {f"--{key.replace('_', '-')}" for key in keys}
    options = {option for option in up_options() if not option.startswith("--no-")}
    assert options - documented == {"--help", "--model", "--config"}
    assert "`--model REFERENCE`" in CONFIGURATION
    assert "--config" in Path("config/serve.yaml").read_text()


def test_keys_that_pages_name_there_are() -> None:
    keys = set(re.findall(r"^\| `([a-z0-9_.]+)` \|", CONFIGURATION, re.MULTILINE))
    sections = {key.partition(".")[0] for key in keys if "." in key}
    for name, page in PAGES.items():
        named = re.findall(r"`([a-z_]+)\.([a-z_]+)`", page)
        unknown = [f"{a}.{b}" for a, b in named if a in sections and f"{a}.{b}" not in keys]
        assert not unknown, name
    assert "`drain.window_s`" in SERVING


def test_every_command_of_the_gateway_is_accepted() -> None:
    example = Path("config/serve.yaml").read_text()
    lines = commands_of(SERVING, UP)
    lines += re.findall(rf"^# +{re.escape(UP)}(.*)$", example, re.MULTILINE)
    assert len(lines) >= 2
    for line in lines:
        assert config_of(shlex.split(line), program="up", documentation=__doc__).models


def test_statuses_are_those_of_the_code() -> None:
    table = rows(SERVING, "what went wrong")
    documented = sorted((code, int(status)) for _, code, status in table)
    assert documented == sorted((status.grpc.name, status.http) for status in STATUSES.values())


def test_statuses_of_http_are_those_of_its_pages() -> None:
    (errors,) = re.findall(r"^- Errors are .*?(?=^- )", HTTP, re.MULTILINE | re.DOTALL)
    named = {int(number) for number in re.findall(r"\b[45]\d\d\b", errors)}
    # Those that openapi.json has of some page, and of every page.
    assert named == {status for route in ROUTES for status in route.errors} | {400, 405}


def test_pages_of_http_are_those_of_the_code() -> None:
    spans = re.findall(r"`([^`]+)`", "\n".join(row[0] for row in rows(HTTP, "page")))
    documented = {word for span in spans for word in re.findall(r"[a-z][a-z0-9_.]+", span)}
    parts = {part for route in ROUTES for part in route.path.split("/")}
    assert documented == {part for part in parts if part[:1] not in ("", "{")} | ADMIN


def as_written(name: str, value: float) -> str:
    """A limit as the page has it."""
    if name.endswith("_per_s"):
        return f"{value / 2**10:g} KiB/s"
    if "bytes" in name:
        return f"{value / 2**20:g} MiB"
    if name.endswith("_s"):
        return f"{value:g} s"
    return f"2^{math.log2(value):g}" if name.endswith("pixels") else f"{value:,}"


def test_limits_of_http_are_those_of_the_code() -> None:
    defaults = HttpConfig().model_dump()
    for names, default, rest in rows(
        HTTP, "limit of [`HttpConfig`](../serving/protocols/over_http/config.py)"
    ):
        named = re.findall(r"`(\w+)`", names)
        assert default == ", ".join(as_written(name, defaults[name]) for name in named)
        for name, value in re.findall(r"`(\w+)` \((\d+)\)", rest):
            assert value == as_written(name, defaults[name])


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the quickstart leaves, as far as pages use it, beside a registry with its champion."""
    directory = tmp_path_factory.mktemp("documentation")
    quickstart = directory / "quickstart"
    quickstart.mkdir()
    images = example_images(5)
    np.save(quickstart / "samples.npy", images)
    digit = Image.fromarray((images[0, :, :, 0] * 255).astype(np.uint8))
    digit.save(quickstart / "digit.png")
    publish_example(directory / "artifact", version="1.0.0", image_preprocessing=GREY_8X8)
    store = open_store(directory / "registry")
    store.publish(directory / "artifact", by="test")
    store.promote("digits", "1.0.0", by="test")
    return directory


@pytest.fixture(scope="module")
def gateway(places: Path) -> Iterator[Gateway]:
    """The one that the page starts."""
    (line,) = commands_of(SERVING, UP)
    registry = {"HPC_REGISTRY": str(places / "registry")}
    with running(*shlex.split(line), log=places / "gateway.log", env=registry) as gateway:
        yield gateway


def here(text: str, gateway: Gateway, places: Path) -> str:
    """A command or code of a page, with this gateway's ports and this test's files."""
    addresses = {"8001": gateway.grpc, "8000": gateway.http, "8080": gateway.admin}
    for port, address in addresses.items():
        text = text.replace(f"localhost:{port}", address)
    text = text.replace(QUICKSTART, str(places / "quickstart"))
    if text.startswith(CLIENT):
        command = text.removeprefix(CLIENT)
        text = f"{shlex.quote(sys.executable)} -m serving.client.program {command}"
        text += f" --address {gateway.grpc}"
        text += f" --rest-address {gateway.http}" if command.startswith("infer") else ""
        text += f" {BRIEF}" if command.startswith("load") else ""
    return text


def shell(command: str) -> str:
    """What a command prints; it ends well."""
    ended = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, (command, ended.stderr)
    return ended.stdout


def form(value: Any) -> Any:
    """What a reply of JSON is made of."""
    if isinstance(value, dict):
        return {key: form(part) for key, part in value.items()}
    return [form(part) for part in value] if isinstance(value, list) else type(value).__name__


def asking(page: str) -> list[Block]:
    """Blocks of commands that ask a gateway, and of what they print."""
    return [
        block
        for block in blocks(page)
        if block.language == "json" or CLIENT in block.text or "curl " in block.text
    ]


def test_the_gateway_says_what_the_page_says(gateway: Gateway) -> None:
    (line,) = [block.text for block in blocks(SERVING) if block.text.startswith("serving ")]
    models, grpc, http, admin = re.fullmatch(
        r"serving (.+) at grpc=127.0.0.1:(\d+) http=127.0.0.1:(\d+) admin=127.0.0.1:(\d+)\n", line
    ).groups()
    assert models == gateway.models
    config = config_of(["--model", "digits"], program="up", documentation=__doc__)
    ports = (config.grpc_port, config.http_port, config.admin_port)
    assert ports == (int(grpc), int(http), int(admin))


@pytest.mark.parametrize("page", sorted(ADMIN))
def test_who_runs_it_finds_the_pages(page: str, gateway: Gateway) -> None:
    assert shell(f"curl -sf {gateway.admin}/{page}")


@pytest.mark.parametrize("page", [SERVING, HTTP], ids=["serving", "http"])
def test_every_command_that_asks_works(page: str, gateway: Gateway, places: Path) -> None:
    printed = ""
    seen = 0
    for block in asking(page):
        if block.language == "json":
            example, reply = json.loads(block.text), json.loads(printed)
            assert form(reply) == form(example)
            assert reply.get("error") == example.get("error")
        for command in commands(block):
            printed = shell(here(command, gateway, places))
            seen += 1
    assert seen >= 4


def test_code_of_our_client_works(gateway: Gateway, places: Path) -> None:
    (code,) = [block.text for block in blocks(SERVING) if block.language == "python"]
    command = shlex.join([sys.executable, "-c", here(code, gateway, places)])
    assert re.fullmatch(r"1\.0\.0 \[(\d ?){5}\]\n", shell(command))


def test_code_of_tritons_client_works(gateway: Gateway, places: Path) -> None:
    (code,) = [block.text for block in blocks(HTTP) if block.language == "python"]
    driver = [*shlex.split(os.environ["CODE_DRIVER"]), here(code, gateway, places)]
    assert re.fullmatch(r"\[(\d ?){5}\]\n", shell("unset PYTHONPATH; " + shlex.join(driver)))
