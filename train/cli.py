"""The command line that `//train:flax` and `//train:torch` share."""

import secrets
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Protocol

import typer
from rich.console import Console

from base.output import Output
from base.program import EXIT_FAILED, PathError, directory_from_user, end_with_error, from_user
from models.network import Framework
from registry.artifact import ArtifactError
from train.callbacks.progress import show_progress
from train.config.help_text import help_text
from train.config.load import load_config
from train.config.schema import ArtifactConfig, ConfigError, TrainConfig
from train.events import Callback
from train.launch.launcher import RankError
from train.meter import TrainingError
from train.preflight import check_overrides, check_run
from train.publication import Publication

# What is said of an `--output` that was given as ''.
NO_OUTPUT = "--output: expected the path of a new directory, got ''"

MAX_RANKS = 1024


class Train(Protocol):
    """`train_flax.train` or `train_torch.train`."""

    def __call__(
        self,
        config: TrainConfig,
        output_dir: Path,
        callbacks: Sequence[Callback],
        *,
        world_size: int = 1,
    ) -> Publication: ...


def main(framework: Framework, load_train: Callable[[], Train]) -> None:
    """Trains as the command line asks, and ends the process with its status.

    Args:
        framework: What trains.
        load_train: Imports it, which takes seconds; called once all has been checked.
    """
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

    @app.command()
    def command(
        config: Annotated[Path, typer.Option(help="YAML file, such as config/digits.yaml.")],
        output: Annotated[
            str | None,
            typer.Option(help="New directory for the artifact.", show_default="one in runs/"),
        ] = None,
        overrides: Annotated[
            list[str] | None,
            typer.Option("--set", metavar="KEY.PATH=VALUE", help="Replace a value; repeatable."),
        ] = None,
        nproc: Annotated[
            int,
            typer.Option(min=1, max=MAX_RANKS, help="Ranks on this machine that share each batch."),
        ] = 1,
        quiet: Annotated[bool, typer.Option("--quiet", help="Show errors only.")] = False,
        help_config: Annotated[
            bool,
            typer.Option(
                "--help-config",
                is_eager=True,
                callback=_show_configuration,
                help="Show every key of a configuration and exit.",
            ),
        ] = False,
    ) -> None:
        """Train a model, evaluate it on held-out data and publish it as an artifact."""
        try:
            checked = load_config(from_user(config), overrides or ())
            check_overrides(overrides or (), framework)
            output = _new_run(checked.artifact) if output is None else output
            output_dir = directory_from_user(output, NO_OUTPUT)
            check_run(checked, output_dir, framework=framework, world_size=nproc)
            _run(load_train(), checked, output_dir, nproc, quiet)
        except (PathError, ConfigError, ArtifactError, TrainingError) as error:
            end_with_error(error)
        except RankError as error:
            end_with_error(error, EXIT_FAILED)

    app()


def unique_name() -> str:
    """Returns the time and a few digits by chance: two runs of one second differ."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def _show_configuration(wanted: bool) -> None:
    if wanted:
        typer.echo(help_text())
        raise typer.Exit


def _new_run(artifact: ArtifactConfig) -> str:
    return f"runs/{artifact.name}-{artifact.version}-{unique_name()}"


def _run(train: Train, config: TrainConfig, output_dir: Path, nproc: int, quiet: bool) -> None:
    output = Output() if sys.stdout else None
    console = Console(quiet=quiet, file=output)
    progress = nullcontext() if quiet else show_progress(console)
    with progress as callback:
        directory, artifact = train(
            config, output_dir, [callback] if callback else [], world_size=nproc
        )
    if directory != output_dir:
        print(f"note: {output_dir} was taken meanwhile; see {directory}", file=sys.stderr)
    console.print(
        f"published {artifact.name} {artifact.version} to {directory}\n"
        f"look at it with: ./bazelw run //registry:show -- {directory}",
        soft_wrap=True,
        highlight=False,
    )
    if output and output.lost:
        reason = output.lost.strerror
        end_with_error(f"published to {directory}, but output was lost: {reason}", EXIT_FAILED)
