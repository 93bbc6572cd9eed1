"""The command line that `//train:flax` and `//train:torch` share."""

import json
import secrets
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn, Protocol

import typer
from rich.console import Console

from base.interrupts import asked
from base.output import Output
from base.program import (
    EXIT_FAILED,
    PathError,
    directory_from_user,
    end_with_error,
    from_user,
)
from models.network import Framework
from registry.access import Access, open_registry
from registry.artifact import ArtifactError
from train.callbacks.callbacks import CallbackError
from train.callbacks.progress import show_progress
from train.checkpoint.beginning import Beginning
from train.checkpoint.run_directory import RunDirectoryError
from train.checkpoint.suspension import Suspension
from train.config.deepspeed import as_options, engine_config, read_deepspeed
from train.config.help_text import help_text
from train.config.load import load_config
from train.config.overrides import in_words
from train.config.schema import ArtifactConfig, ConfigError, TrainConfig
from train.data_parallel import check_world_size
from train.destination import Destination, check_destination, deliver, destination
from train.events import Callback
from train.launch.launched import Launched, launched
from train.launch.launcher import RankError
from train.meter import TrainingError
from train.preflight import check_overrides, check_run
from train.publication import Publication

# What is said of an `--output` that was given as ''.
NO_OUTPUT = "--output: expected the path of a directory, got ''"

_NO_ORIGIN = "--init-from: expected an artifact's directory or a reference to it, got ''"

MAX_RANKS = 1024

_EXPECTED = (PathError, ConfigError, ArtifactError, RunDirectoryError, TrainingError)


class Train(Protocol):
    """`train_flax.train` or `train_torch.train`."""

    def __call__(
        self,
        config: TrainConfig,
        output_dir: Path,
        callbacks: Sequence[Callback],
        *,
        world_size: int = 1,
        beginning: Beginning = ...,
    ) -> Publication | Suspension: ...


# `train_torch.train_launched`.
TrainLaunched = Callable[
    [Launched, TrainConfig, Path, Sequence[Callback], Beginning],
    Publication | Suspension | None,
]


def main(
    framework: Framework,
    load_train: Callable[[], Train],
    load_launched: Callable[[], TrainLaunched] | None = None,
) -> None:
    """Trains as the command line asks, and ends the process with its status.

    Args:
        framework: What trains.
        load_train: Imports it, which takes seconds; called once all has been checked.
        load_launched: Imports what trains as one of a launcher's ranks; None: none is heeded.
    """
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

    @app.command()
    def command(
        config: Annotated[Path, typer.Option(help="YAML file, such as config/digits.yaml.")],
        output: Annotated[
            str | None,
            typer.Option(
                help="Directory of the run: a new one, or one in which the run goes on.",
                show_default="one in runs/",
            ),
        ] = None,
        fresh: Annotated[
            bool,
            typer.Option("--fresh", help="Begin anew; what there is of the run is set aside."),
        ] = False,
        from_step: Annotated[
            int | None,
            typer.Option(min=1, help="Go on from this checkpoint; later ones are set aside."),
        ] = None,
        init_from: Annotated[
            str | None,
            typer.Option(
                metavar="REFERENCE",
                help="Artifact whose weights the first step begins with: its directory, or what "
                "names it in the registry, such as digits@champion.",
            ),
        ] = None,
        registry: Annotated[
            str | None,
            typer.Option(metavar="URL", help="Registry to publish to when the run has ended, too."),
        ] = None,
        key: Annotated[
            str | None,
            typer.Option(
                metavar="FILE",
                envvar="HPC_SIGNING_KEY",
                help="Private key (PEM) that signs the artifact.",
            ),
        ] = None,
        overrides: Annotated[
            list[str] | None,
            typer.Option("--set", metavar="KEY.PATH=VALUE", help="Replace a value; repeatable."),
        ] = None,
        local_rank: Annotated[
            int | None,
            typer.Option("--local_rank", "--local-rank", hidden=True),  # DeepSpeed's launcher's
        ] = None,
        nproc: Annotated[
            int,
            typer.Option(min=1, max=MAX_RANKS, help="Ranks on this machine that share each batch."),
        ] = 1,
        deepspeed_config: Annotated[
            str | None,
            typer.Option(
                metavar="FILE",
                hidden=framework != "torch",
                help="DeepSpeed's JSON; it replaces the values of --config that it gives.",
            ),
        ] = None,
        print_deepspeed_config: Annotated[
            bool,
            typer.Option(
                "--print-deepspeed-config",
                hidden=framework != "torch",
                help="Show the JSON that the run gives to DeepSpeed and exit.",
            ),
        ] = False,
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
        place = None
        try:
            place = None if load_launched is None else _place()
            _check_launched(place, nproc, output)
            world_size = nproc if place is None else place.world_size
            given = _deepspeed_options(deepspeed_config, overrides or (), world_size, framework)
            checked = load_config(from_user(config), given)
            check_overrides(overrides or (), framework)
            if print_deepspeed_config:
                if _is_first(place):
                    _print_deepspeed(checked, world_size, framework)
                return
            output = _new_run(checked.artifact) if output is None else output
            output_dir = directory_from_user(output, NO_OUTPUT)
            beginning = _beginning(fresh, from_step, init_from, registry)
            check_run(
                checked,
                output_dir,
                framework=framework,
                world_size=world_size,
                beginning=beginning,
                is_first=_is_first(place),
            )
            goes_to = _destination(registry, key, checked, output_dir, place, beginning)
            quiet = quiet or not _is_first(place)
            with _progress(quiet) as (console, callbacks):
                end: Publication | Suspension | None
                if place is not None and load_launched is not None:
                    end = load_launched()(place, checked, output_dir, callbacks, beginning)
                else:
                    end = load_train()(
                        checked, output_dir, callbacks, world_size=nproc, beginning=beginning
                    )
            _tell_end(console, end, goes_to)
        except _EXPECTED as error:
            end_with_error(error)
        except (RankError, CallbackError) as error:
            end_with_error(error, EXIT_FAILED)

    app(prog_name=f"//train:{framework}")


def _deepspeed_options(
    file: str | None, overrides: Sequence[str], world_size: int, framework: Framework
) -> list[str]:
    """Returns overrides, and before them those of a file of DeepSpeed's, if one was given."""
    if file is None:
        return list(overrides)
    _require_torch("--deepspeed-config", framework)
    found = read_deepspeed(from_user(Path(file)), world_size)
    for override in overrides:
        if (path := override.partition("=")[0].strip()) in found:
            raise ConfigError(
                f"{in_words(override)}: --deepspeed-config {file} gives {path} too; remove one"
            )
    return [*as_options(found), *overrides]


def _print_deepspeed(config: TrainConfig, world_size: int, framework: Framework) -> None:
    _require_torch("--print-deepspeed-config", framework)
    check_world_size(config, world_size)
    typer.echo(json.dumps(engine_config(config, world_size), indent=2))


def _require_torch(option: str, framework: Framework) -> None:
    if framework != "torch":
        raise ConfigError(f"{option}: only //train:torch trains through DeepSpeed; remove it")


def _beginning(
    fresh: bool, from_step: int | None, init_from: str | None, registry: str | None
) -> Beginning:
    if fresh and from_step is not None:
        raise ConfigError(f"--fresh and --from-step {from_step}: give one of them")
    return Beginning(fresh, from_step, None if init_from is None else _origin(init_from, registry))


def _origin(init_from: str, registry: str | None) -> Path:
    """Returns the directory of the artifact that a run begins with."""
    if not init_from:
        raise PathError(_NO_ORIGIN)
    return Access(registry).find(init_from).directory


def unique_name() -> str:
    """Returns the time and a few digits by chance: two runs of one second differ."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def _show_configuration(wanted: bool) -> None:
    if wanted:
        typer.echo(help_text())
        raise typer.Exit


def _destination(
    registry: str | None,
    key: str | None,
    config: TrainConfig,
    output_dir: Path,
    place: Launched | None,
    beginning: Beginning,
) -> Destination:
    """Returns where the artifact goes besides the run's directory; the first rank brings it."""
    if not _is_first(place):
        return Destination()
    store = None if registry is None else open_registry(registry)
    found = destination(store, None if key is None else from_user(key))
    goes_on = not beginning.fresh and beginning.from_step is None
    check_destination(found, config, output_dir, goes_on=goes_on)
    return found


def _new_run(artifact: ArtifactConfig) -> str:
    return f"runs/{artifact.name}-{artifact.version}-{unique_name()}"


def _place() -> Launched | None:
    """Returns the place of this process in a launcher's world; None: it is in none."""
    try:
        return launched()
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _check_launched(place: Launched | None, nproc: int, output: str | None) -> None:
    if place is not None and nproc != 1:
        raise ConfigError(
            f"--nproc {nproc}: a launcher has started the {place.world_size} ranks; leave it out"
        )
    if place is not None and output is None:
        raise ConfigError("--output: ranks of a launcher go to one directory; name it")


def _is_first(place: Launched | None) -> bool:
    return place is None or place.rank == 0


@contextmanager
def _progress(quiet: bool) -> Iterator[tuple[Console, list[Callback]]]:
    """Yields where to print, and who shows the progress there."""
    console = Console(quiet=quiet, file=Output() if sys.stdout else None)
    with nullcontext() if quiet else show_progress(console) as callback:
        yield console, [callback] if callback else []


def _tell_end(console: Console, end: Publication | Suspension | None, goes_to: Destination) -> None:
    """Brings what a run has come to where it goes, and says so; a launcher's first rank knows."""
    if end is None:
        return
    if isinstance(end, Suspension):
        _end_suspended(end)
    directory, artifact = end
    try:
        version = deliver(goes_to, end)
    except ArtifactError as error:
        end_with_error(error, EXIT_FAILED)
    told = f"published {artifact.name} {artifact.version} to {directory}\n"
    if version is not None and goes_to.store is not None:
        told += f"published {version.name}:{version.version} to {goes_to.store.url}\n"
    console.print(
        f"{told}look at it with: ./bazelw run //registry:hpc -- show {directory}",
        soft_wrap=True,
        highlight=False,
    )
    output = console.file
    if isinstance(output, Output) and output.lost:
        reason = output.lost.strerror
        end_with_error(f"published to {directory}, but output was lost: {reason}", EXIT_FAILED)


def _end_suspended(end: Suspension) -> NoReturn:
    """Ends the program as asked: with 0 of SIGTERM, and else with what a shell expects."""
    so_far = f"asked to end after {end.step:,} of {end.num_steps:,} steps"
    if isinstance(end.saved, str):
        end_with_error(f"{so_far}, which could not be saved: {end.saved}", EXIT_FAILED)
    print(f"{so_far}, which are saved; the same command goes on, with", file=sys.stderr)
    print(f"  --output {end.directory}", file=sys.stderr)
    number = asked() or signal.SIGTERM
    sys.exit(0 if number == signal.SIGTERM else 128 + number)
