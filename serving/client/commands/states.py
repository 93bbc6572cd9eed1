"""`metadata`, `ready` and `index`: what a server says about itself and its models."""

import time
from typing import Annotated, Any

import grpc
import typer
from rich.console import Group, RenderableType
from rich.text import Text

from base.program import EXIT_FAILED
from base.text import printable
from registry.commands.output import as_facts, emit, table
from serving.client.commands.options import (
    DEFAULT_ADDRESS,
    Address,
    AsJson,
    ModelOrServer,
    TimeoutS,
    Version,
)
from serving.client.errors import InferenceError
from serving.client.sync import InferenceClient

# Between two questions of `ready --wait`.
_POLL_S = 0.2

# What a server that is coming up answers, or nobody in its place.
_NOT_YET = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def metadata(
    model: ModelOrServer = None,
    version: Version = "",
    address: Address = DEFAULT_ADDRESS,
    timeout_s: TimeoutS = 30.0,
    as_json: AsJson = False,
) -> None:
    """Print what a server, or a model of it, says about itself."""
    with InferenceClient(address, timeout_s) as client:
        if model is None:
            facts = as_facts(client.server_metadata())
            drawn: RenderableType = table(
                ["server", "version", "extensions"],
                [[facts["name"], facts["version"], ", ".join(facts["extensions"])]],
            )
        else:
            facts = as_facts(client.model_metadata(model, version))
            drawn = _drawn_model(facts)
    emit(facts, drawn, as_json)


def ready(
    model: ModelOrServer = None,
    version: Version = "",
    wait_s: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", help="Wait so long for it.", min=0.0)
    ] = 0.0,
    address: Address = DEFAULT_ADDRESS,
    timeout_s: TimeoutS = 30.0,
) -> None:
    """Say whether a server or a model is ready; if not, end with 1."""
    with InferenceClient(address, timeout_s) as client:
        if _becomes_ready(client, model, version, wait_s):
            typer.echo("ready")
            return
        typer.echo(f"not ready{_reasons(client, model, version)}")
    raise typer.Exit(EXIT_FAILED)


def index(
    only_ready: Annotated[bool, typer.Option("--ready", help="Only those that are ready.")] = False,
    address: Address = DEFAULT_ADDRESS,
    timeout_s: TimeoutS = 30.0,
    as_json: AsJson = False,
) -> None:
    """List models, their states and the reasons."""
    with InferenceClient(address, timeout_s) as client:
        rows = [as_facts(model) for model in client.repository_index(ready=only_ready)]
    columns = ["name", "version", "state", "reason"]
    cells = [[row[column] for column in columns] for row in rows]
    none = "no model is ready" if only_ready else "the server has no models"
    emit(rows, table(["model", *columns[1:]], cells) if rows else Text(none), as_json)


def _drawn_model(facts: dict[str, Any]) -> RenderableType:
    head = table(
        ["model", "versions", "platform"],
        [[facts["name"], ", ".join(facts["versions"]), facts["platform"]]],
    )
    tensors = [
        [kind, tensor["name"], tensor["datatype"], _shape(tensor["shape"])]
        for kind, tensors in (("input", facts["inputs"]), ("output", facts["outputs"]))
        for tensor in tensors
    ]
    parts = [head, Text(), table(["", "name", "datatype", "shape"], tensors)]
    if facts["properties"]:
        parts += [Text(), table(["property", "value"], sorted(facts["properties"].items()))]
    return Group(*parts)


def _shape(shape: list[str]) -> str:
    """JSON of protobuf has integers of 64 bits as strings."""
    return f"[{', '.join(shape)}]"


def _becomes_ready(client: InferenceClient, model: str | None, version: str, wait_s: float) -> bool:
    """Whether it is ready within so many seconds.

    Raises:
        InferenceError: nobody can say whether it is, at the end of them.
    """
    deadline = time.monotonic() + wait_s
    while True:
        try:
            is_ready = client.ready(model, version)
        except InferenceError as error:
            if error.code not in _NOT_YET or time.monotonic() >= deadline:
                raise
            is_ready = False
        if is_ready or time.monotonic() >= deadline:
            return is_ready
        time.sleep(_POLL_S)


def _reasons(client: InferenceClient, model: str | None, version: str) -> str:
    """Why, in the words of the server's index; nothing if it has none."""
    try:
        states = client.repository_index()
    except InferenceError:
        return ""
    reasons = [
        f"{state.name} {state.version} is {state.state}: {state.reason or 'no reason given'}"
        for state in states
        if state.state != "READY" and model in (None, state.name) and version in ("", state.version)
    ]
    return printable(": " + "; ".join(reasons)) if reasons else ""
