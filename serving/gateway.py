"""Serves an artifact through the Open Inference Protocol, from replicas in Ray Serve.

bazel run //serving:gateway -- --artifact DIRECTORY

Prints one line when it is ready to answer, `serving digits 1.0.0 at 127.0.0.1:8001`, and drains on
SIGINT or SIGTERM. What it can refuse it refuses before Ray is started.
"""

import asyncio
import logging
import os
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from pydantic import ValidationError

from models.config import ModelConfigError
from models.validation import explain
from models.weights import WeightsError
from registry.artifact import ArtifactError, load
from registry.predictor import check_model
from serving.config import GatewayConfig
from serving.errors import StartError
from serving.model import served_model

# Both libraries read their environment when they are imported, so that is done inside main.
ENVIRONMENT = {
    # Ray forks while gRPC runs; the children replace themselves at once and use no gRPC of ours.
    "GRPC_ENABLE_FORK_SUPPORT": "0",
    # What matters of gRPC's own log reaches us as exceptions.
    "GRPC_VERBOSITY": "NONE",
    # Ray's own handler would print a stack and end the process on SIGTERM, before any draining.
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",
    # Named after the systems where it is the default: keeps Ray on loopback.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}


def main(
    artifact: Annotated[Path, typer.Option(help="Directory of the artifact to serve.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for any free one.")] = 8001,
    framework: Annotated[
        str | None, typer.Option(help="flax or torch; by default the one that trained the model.")
    ] = None,
    replicas: Annotated[int, typer.Option(help="Processes that hold the model.")] = 1,
    insecure_bind: Annotated[
        bool, typer.Option("--insecure-bind", help="Allow a host that is not loopback.")
    ] = False,
) -> None:
    """Serve an artifact through gRPC."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    # `bazel run` starts programs in its own directory, not in the user's.
    directory = Path(os.environ.get("BUILD_WORKING_DIRECTORY", ""), artifact).absolute()
    try:
        config = GatewayConfig.model_validate(
            {
                "artifact": directory,
                "host": host,
                "port": port,
                "framework": framework,
                "replicas": replicas,
                "insecure_bind": insecure_bind,
            }
        )
        loaded = load(config.artifact)
        check_model(loaded)
        model = served_model(loaded, config.framework)
    except ValidationError as error:
        _refuse("; ".join(explain(error, GatewayConfig)))
    except (ArtifactError, ModelConfigError, WeightsError) as error:
        _refuse(str(error))

    os.environ.update(ENVIRONMENT)
    from serving.lifecycle import serve_until_signal

    try:
        asyncio.run(serve_until_signal(config, model))
    except StartError as error:
        _refuse("\n".join([str(error), *getattr(error, "__notes__", [])]))


def _refuse(reason: str) -> NoReturn:
    typer.echo(f"error: {reason}", err=True)
    raise typer.Exit(2)


if __name__ == "__main__":
    typer.run(main)
