"""The command line that `//train:flax` and `//train:torch` share."""

import os
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Protocol

import typer
from hpc.artifact.v1 import artifact_pb2
from rich.console import Console

from registry.artifact import ArtifactError
from train.callbacks import Callback
from train.config import ArtifactConfig, ConfigError, TrainConfig, load_config
from train.launcher import RankError
from train.meter import TrainingError
from train.progress import show_progress

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


class Train(Protocol):
    """`train_flax.train` or `train_torch.train`."""

    def __call__(
        self,
        config: TrainConfig,
        output_dir: Path,
        callbacks: Sequence[Callback],
        *,
        world_size: int = 1,
    ) -> artifact_pb2.Artifact: ...


def main(train: Train) -> None:
    """Runs `train` as the command line asks, and ends the process with its status."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

    @app.command()
    def command(
        config: Annotated[Path, typer.Option(help="YAML file, such as config/digits_flax.yaml.")],
        output: Annotated[
            Path | None,
            typer.Option(help="New directory for the artifact.", show_default="one in runs/"),
        ] = None,
        overrides: Annotated[
            list[str] | None,
            typer.Option("--set", metavar="KEY.PATH=VALUE", help="Replace a value; repeatable."),
        ] = None,
        nproc: Annotated[
            int, typer.Option(min=1, help="Ranks on this machine that share each batch.")
        ] = 1,
        quiet: Annotated[bool, typer.Option("--quiet", help="Show errors only.")] = False,
    ) -> None:
        """Train a model, evaluate it on held-out data and publish it as an artifact."""
        try:
            checked = load_config(from_user(config), overrides or ())
            output_dir = from_user(output) if output else _new_run_dir(checked.artifact)
            _run(train, checked, output_dir, nproc, quiet)
        except (ConfigError, ArtifactError, TrainingError) as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(EXIT_BAD_INPUT) from error
        except RankError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(EXIT_FAILED) from error
        except KeyboardInterrupt:
            typer.echo("interrupted: nothing half-written was left", err=True)
            raise typer.Exit(EXIT_INTERRUPTED) from None

    app()


def from_user(path: Path) -> Path:
    """Resolves a path against the user's directory, which is not that of a `bazel run` program."""
    return Path(os.environ.get("BUILD_WORKING_DIRECTORY", os.getcwd()), path)


def _new_run_dir(artifact: ArtifactConfig) -> Path:
    time = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    return from_user(Path("runs", f"{artifact.name}-{artifact.version}-{time}"))


def _run(train: Train, config: TrainConfig, output_dir: Path, nproc: int, quiet: bool) -> None:
    console = Console(quiet=quiet)
    progress = nullcontext() if quiet else show_progress(console, config.run.num_steps)
    with progress as callback:
        artifact = train(config, output_dir, [callback] if callback else [], world_size=nproc)
    console.print(
        f"published {artifact.name} {artifact.version} to {output_dir}\n"
        f"look at it with: ./bazelw run //registry:show -- {output_dir}",
        soft_wrap=True,
        highlight=False,
    )
