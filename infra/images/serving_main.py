"""What the serving image runs: a gateway that other containers and published ports reach.

Arguments are those of `//serving:up`. Where none names a model, the one that is mounted at /model
is served; a registry is looked for at /registry unless HPC_REGISTRY or --registry names another.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

MODEL = Path("/model")
REGISTRY = Path("/registry")

# Options that say what to serve, or that nothing is to be served.
_ENOUGH = ("--model", "--config", "--help", "-h")

# A container has a network of its own, of which only what is published can be reached.
_LISTEN = ("--host", "0.0.0.0", "--insecure-bind")  # noqa: S104

_NOTHING = (
    f"error: there is no model to serve: mount an artifact (-v DIRECTORY:{MODEL}:ro), or a "
    f"registry and name a model of it (-v DIRECTORY:{REGISTRY}:ro ... --model digits@champion)"
)


def command(arguments: Sequence[str], *, has_model: bool) -> list[str] | None:
    """Returns the program that serves and its arguments; None if there is nothing to serve.

    Args:
        arguments: Of the container.
        has_model: Whether an artifact is mounted at its place.
    """
    named = any(argument.partition("=")[0] in _ENOUGH for argument in arguments)
    if not named and not has_model:
        return None
    model = () if named else ("--model", str(MODEL))
    return [sys.executable, "-m", "serving.up", *_LISTEN, *model, *arguments]


def _main() -> None:
    program = command(sys.argv[1:], has_model=MODEL.exists())
    if program is None:
        print(_NOTHING, file=sys.stderr)
        sys.exit(2)
    os.environ.setdefault("HPC_REGISTRY", str(REGISTRY))
    # In its place, so that the container's signals are the gateway's.
    os.execv(program[0], program)  # noqa: S606


if __name__ == "__main__":
    _main()
