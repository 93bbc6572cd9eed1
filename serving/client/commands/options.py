"""The options that several commands share, and what each of them means."""

from typing import Annotated

import typer

DEFAULT_ADDRESS = "127.0.0.1:8001"
DEFAULT_REST_ADDRESS = "127.0.0.1:8000"

Address = Annotated[str, typer.Option(metavar="HOST:PORT", help="The server, by gRPC.")]
TimeoutS = Annotated[float, typer.Option(help="Seconds that an answer may take, with retries.")]
Model = Annotated[str, typer.Option(help="Name of the model.")]
ModelOrServer = Annotated[
    str | None, typer.Option("--model", help="A model; without it, the server.")
]
Version = Annotated[str, typer.Option(help="Version of the model; by default the server chooses.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
