"""`client`: the command line of any server of the Open Inference Protocol."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import typer

from base.program import EXIT_BAD_INPUT, EXIT_FAILED, PathError, end_with_error
from serving.client.commands import infer, load, states
from serving.client.errors import BAD_INPUT, InferenceError

_COMMANDS: dict[str, Callable[..., None]] = {
    "infer": infer.infer,
    "metadata": states.metadata,
    "ready": states.ready,
    "index": states.index,
    "load": load.load,
}


def make_app() -> typer.Typer:
    """Returns the program."""
    app = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        no_args_is_help=True,
        help="Talk to an inference server of the Open Inference Protocol: see docs/serving.md.",
    )
    for name, command in _COMMANDS.items():
        app.command(name)(_ending(command))
    return app


def _ending(command: Callable[..., None]) -> Callable[..., None]:
    """Returns a command that ends with one line where it cannot do what was asked."""

    @wraps(command)
    def ending(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except InferenceError as error:
            end_with_error(error, EXIT_BAD_INPUT if error.code in BAD_INPUT else EXIT_FAILED)
        except (PathError, TypeError, ValueError) as error:
            end_with_error(error)

    return ending
