"""Serves models of a registry by every protocol, from replicas in Ray Serve.

    bazel run //serving:up -- --registry DIR --model digits@champion --model bytes:1
    bazel run //serving:up -- --config config/serve.yaml

Prints one line on stdout when it is ready to answer, and drains on SIGINT, SIGTERM or SIGHUP. What
it can refuse it refuses before Ray is imported.
"""

import os
import sys

from base.interrupts import exit_when_interrupted, hear_signals_in_imports

if __name__ == "__main__":
    hear_signals_in_imports("interrupted: nothing was started")

from base.program import EXIT_FAILED, PathError, end_with_error
from models.architecture import ModelConfigError
from registry.access import Access
from registry.artifact import ArtifactError
from serving.configuration.command import config_of
from serving.configuration.schema import ServeConfig
from serving.control.environment import isolate
from serving.errors import StartError
from serving.life.references import References


def main() -> None:
    """Serves what the command line says."""
    config = config_of(None, program="//serving:up", documentation=__doc__)
    access = _checked(config)
    if unused := isolate(os.environ, config.ray.ray_address):
        print(f"warning: not used are {', '.join(unused)}", file=sys.stderr)
    # gRPC reads the environment when it is imported.
    import uvloop

    from serving.life.lifecycle import RayLostError, serve_until_signal

    try:
        uvloop.run(serve_until_signal(config, access))
    except StartError as error:
        end_with_error("\n".join([str(error), *getattr(error, "__notes__", [])]))
    except RayLostError as error:
        end_with_error(error, EXIT_FAILED)


def _checked(config: ServeConfig) -> Access:
    """The user's registry, in which every model was found to be one that can be served."""
    try:
        access = Access(config.registry, config.trust)
        for model in config.models:
            References(access).find(config.of_model(model))
    except (ArtifactError, ModelConfigError, PathError) as error:
        end_with_error(error)
    return access


if __name__ == "__main__":
    with exit_when_interrupted("interrupted: nothing was started"):
        main()
