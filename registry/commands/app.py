"""`hpc`: the registry's command line."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import typer

from base.program import EXIT_FAILED, PathError, end_with_error
from registry.commands import collecting, comparing, listing, moving, publishing, showing, stages
from registry.errors import ArtifactError, UntrustedError

_HELP = "Artifacts that one can find, trust, compare and load anywhere: see docs/registry.md."

# What a person does first, first.
_COMMANDS: dict[str, Callable[..., None]] = {
    "list": listing.list_versions,
    "show": showing.show,
    "publish": publishing.publish,
    "verify": publishing.verify_artifact,
    "sign": publishing.sign,
    "alias": stages.alias,
    "promote": stages.promote,
    "compare": comparing.compare,
    "export": moving.export,
    "import": moving.import_,
    "gc": collecting.collect,
    "log": listing.show_log,
}


def app_with(further: dict[str, Callable[..., None]]) -> typer.Typer:
    """Returns the program.

    Args:
        further: Commands of rooms above this one, by name.
    """
    app = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        no_args_is_help=True,
        help=_HELP,
    )
    for name, command in {**_COMMANDS, **further}.items():
        app.command(name)(_ending(command))
    return app


def _ending(command: Callable[..., None]) -> Callable[..., None]:
    """Returns a command that ends with one line where it cannot do what was asked."""

    @wraps(command)
    def ending(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except UntrustedError as error:
            end_with_error(error, EXIT_FAILED)
        except (ArtifactError, PathError) as error:
            end_with_error(error)

    return ending
