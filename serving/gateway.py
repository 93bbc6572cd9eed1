"""Serves an artifact through the Open Inference Protocol, from replicas in Ray Serve.

bazel run //serving:gateway -- --artifact DIRECTORY

Prints one line when it is ready to answer, `serving digits 1.0.0 at 127.0.0.1:8001`, and drains on
SIGINT, SIGTERM or SIGHUP. What it can refuse it refuses before Ray is imported.

Each gateway runs a Ray of its own on this machine, reachable on loopback only, and joins no other:
RAY_ADDRESS and its like are named in a warning and not used, and neither are the proxies of the
environment.
"""

import asyncio
import logging
import os

from base.interrupts import exit_when_interrupted, hear_signals_in_imports

if __name__ == "__main__":
    hear_signals_in_imports("interrupted: nothing was started")

import typer

from base.program import end_with_error
from models.architecture import ModelConfigError
from registry.access import Access
from registry.artifact import ArtifactError
from serving.command_line import command_of
from serving.config import GatewayConfig
from serving.environment import isolate
from serving.errors import StartError
from serving.model import served_model


def serve(config: GatewayConfig) -> None:
    """Serve an artifact through gRPC, from a Ray of its own, whatever RAY_ADDRESS says."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    try:
        found = Access().at(config.artifact)
        model = served_model(found.descriptor, config.framework)
    except (ArtifactError, ModelConfigError) as error:
        end_with_error(error)

    if unused := isolate(os.environ):
        names = ", ".join(unused)
        typer.echo(
            f"warning: this gateway runs a Ray of its own and does not use {names}", err=True
        )
    from serving.lifecycle import serve_until_signal

    try:
        asyncio.run(serve_until_signal(config, model))
    except StartError as error:
        end_with_error("\n".join([str(error), *getattr(error, "__notes__", [])]))


main = command_of(GatewayConfig, serve)


if __name__ == "__main__":
    with exit_when_interrupted("interrupted: nothing was started"):
        typer.run(main)
