"""The command line that `//train:flax` and `//train:torch` share."""

import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Protocol

import typer
from hpc.artifact.v1 import artifact_pb2
from rich.console import Console

from registry.artifact import ArtifactError
from train.callbacks import Callback
from train.config import ConfigError, TrainConfig, load_config
from train.meter import TrainingError
from train.progress import show_progress

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


class Train(Protocol):
    """`train_flax.train` or `train_torch.train`."""

    def __call__(
        self, config: TrainConfig, output_dir: Path, callbacks: Sequence[Callback]
    ) -> artifact_pb2.Artifact: ...


def main(train: Train) -> None:
    """Runs `train` as the command line asks, and ends the process with its status."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

    @app.command()
    def command(
        config: Annotated[Path, typer.Option(help="YAML file, such as config/digits_flax.yaml.")],
        output: Annotated[Path, typer.Option(help="New directory for the artifact.")],
        quiet: Annotated[bool, typer.Option("--quiet", help="Show errors only.")] = False,
    ) -> None:
        """Train a model, evaluate it on held-out data and publish it as an artifact."""
        try:
            _run(train, from_user(config), from_user(output), quiet)
        except (ConfigError, ArtifactError, TrainingError) as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(EXIT_BAD_INPUT) from error
        except KeyboardInterrupt:
            typer.echo("interrupted: nothing half-written was left", err=True)
            raise typer.Exit(EXIT_INTERRUPTED) from None

    app()


def from_user(path: Path) -> Path:
    """Resolves a path against the user's directory, which is not that of a `bazel run` program."""
    return Path(os.environ.get("BUILD_WORKING_DIRECTORY", os.getcwd()), path)


def _run(train: Train, config_path: Path, output_dir: Path, quiet: bool) -> None:
    config = load_config(config_path)
    console = Console(quiet=quiet)
    progress = nullcontext() if quiet else show_progress(console, config.run.num_steps)
    with progress as callback:
        artifact = train(config, output_dir, [callback] if callback else [])
    console.print(
        f"published {artifact.name} {artifact.version} to {output_dir}\n"
        f"look at it with: ./bazelw run //registry:show -- {output_dir}",
        soft_wrap=True,
        highlight=False,
    )
